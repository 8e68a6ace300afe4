"""Commands whose help has its options in sections, and examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

OPTIONS = "Options"
OUTPUT = "Output"
MODEL = "Model"
PLUGINS = "Commands of plugins"
_LAST = (MODEL, OUTPUT)
"""Sections that every command has; they come after its own."""


class Option(click.Option):
    """Option that belongs to a section of the help."""

    def __init__(self, *declarations: Any, section: str = OPTIONS, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.section = section


class Command(click.Command):
    """Command that belongs to a section of ``sottovoce --help``, and shows its options by sections, and examples.

    Args:
        arguments: Those of :class:`click.Command`.
        section: Section of the list of all commands.
        examples: Complete commands as a user types them; tests parse every one.
        attributes: Those of :class:`click.Command`.
    """

    def __init__(
        self, *arguments: Any, section: str = PLUGINS, examples: Sequence[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.section, self.examples = section, tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        for title, records in sections(self, ctx):
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{example}\n")


def sections(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the sections of a command's options: the title, and for each option what to type and what it does."""
    by_title: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
            title = getattr(parameter, "section", OUTPUT if "--help" in parameter.opts else OPTIONS)
            by_title.setdefault(title, []).append(record)
    for title in sorted(by_title, key=lambda title: _LAST.index(title) if title in _LAST else -1):
        yield title, by_title[title]
