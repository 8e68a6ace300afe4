"""The group of all commands: core's own and those of the plugins."""

from __future__ import annotations

import sys
import warnings

import click

from sottovoce.cli.command import PLUGINS
from sottovoce.errors import UsageError
from sottovoce.plugins import host, published

SECTIONS = ("Begin", "Compress", "Measure", "Use and publish")
"""Sections of the list of commands, in order; those of plugins come behind."""


class Commands(click.Group):
    """Core's commands, which are known at once, and the plugins', which are looked up when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the alphabet's order."""
        return sorted({*self.commands, *self._of_plugins()})

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, section by section."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {name: command for name, command in commands.items() if command is not None and not command.hidden}
        width = formatter.width - 6 - max(map(len, shown))
        titles = [getattr(command, "section", PLUGINS) for command in shown.values()]
        for title in sorted(
            set(titles), key=lambda title: SECTIONS.index(title) if title in SECTIONS else len(SECTIONS)
        ):
            rows = [
                (name, command.get_short_help_str(width))
                for name, command in shown.items()
                if getattr(command, "section", PLUGINS) == title
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name.

        Raises:
            UsageError: It is a plugin's that is not loaded; says how to install it.
        """
        command = super().get_command(ctx, cmd_name) or self._of_plugins().get(cmd_name)
        if command is None and (plugin := published.plugin_of(cmd_name)):
            words = " ".join(published.installable([plugin]))
            raise UsageError(
                f"the command {cmd_name!r} comes with {plugin}, which is not loaded (see `sottovoce plugins`); "
                f"to install it: pip install {words} in a clone of Sottovoce's repository"
            )
        return command

    def _of_plugins(self) -> dict[str, click.Command]:
        """Return the plugins' commands; say which plugins are skipped, for no command is there yet that would."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", host.PluginWarning)
            commands = host.default_host().commands(self.commands)
        if not {"--quiet", "-q"} & set(sys.argv):
            for warning in caught:
                click.echo(f"warning: {warning.message}", err=True)
        return dict(commands)
