"""Command ``sottovoce plugins``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb
from sottovoce.errors import PluginError

if TYPE_CHECKING:
    from rich.table import Table

    from sottovoce.architecture import Architecture
    from sottovoce.plugins.host import Host


@click.command(cls=Command, section="Begin", examples=("sottovoce plugins",))
@verb
def plugins(out: Output) -> None:
    """List the installed plugins with their model families, and everything else that they and core bring.

    That is: commands, steps of recipes, quantization methods, metrics and export formats.
    """
    from rich.console import Group

    from sottovoce.plugins.host import default_host

    host = default_host()
    rows = [
        {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version, "error": plugin.error}
        for plugin in host.plugins
    ]
    families = {name: list(architecture.matches) for name, architecture in host.architectures.items()}
    try:
        commands = dict(sorted(host.commands().items()))
    except PluginError as error:
        out.note(f"warning: no plugin's command is listed: {error}")
        commands = {}
    declared = _declared()
    lists: dict[str, Mapping[str, str]] = {**declared, "command": _helps(commands)}

    def tables() -> Group:
        return Group(_families(host), *(_listing(title, entries) for title, entries in lists.items() if entries))

    keys = {f"{name}s": entries for name, entries in declared.items()}
    out.result({"plugins": rows, "architectures": families, "commands": list(commands), **keys}, tables)


def _helps(commands: Mapping[str, click.Command]) -> dict[str, str]:
    return {name: command.get_short_help_str(limit=120) for name, command in commands.items()}


def _families(host: Host) -> Table:
    """Return a table with a row for each family, and one for each plugin that brings none."""
    from rich.table import Table

    table = Table("family", box=None, padding=(0, 2, 0, 0))
    table.add_column("model classes", overflow="fold")
    for title in ("task", "besides quantizing", "plugin"):
        table.add_column(title)
    named = set()
    for family in host.architectures.values():
        owner = host.plugin_of(family.name)
        named.add(owner.name)
        table.add_row(family.name, "\n".join(_classes(family)), family.task, _prunable(family), _version(owner))
    for plugin in host.plugins:
        if plugin.name not in named:
            table.add_row("", "", "", "", f"{_version(plugin)}: {plugin.error or 'brings no family'}")
    return table


def _version(plugin: Any) -> str:
    return f"{plugin.distribution} {plugin.version}".strip()


def _classes(family: Architecture) -> list[str]:
    """Return the classes that a family matches, without those that are the same in another module."""
    return [name for name in family.matches if name.rpartition(".")[2] not in family.matches or "." not in name]


def _prunable(family: Architecture) -> str:
    from sottovoce.recipe.presets import can_be_narrowed, can_lose_heads

    can = {
        "width": can_be_narrowed(family),
        "heads": can_lose_heads(family),
        "layers": any(depth.pruned for depth in family.shape.depths),
        "experts": bool(family.experts),
    }
    pruned = [name for name, possible in can.items() if possible]
    verbs = [f"prune {', '.join(pruned)}"] if pruned else []
    return "; ".join([*verbs, *(["distill"] if family.training is not None else [])])


def _listing(title: str, entries: Mapping[str, str]) -> Table:
    from rich.table import Table

    table = Table(title, "", box=None, padding=(0, 2, 0, 0))
    for name, text in entries.items():
        table.add_row(name, text)
    return table


def _declared() -> dict[str, dict[str, str]]:
    """Return what registers itself, by kind: names with one line each."""
    from sottovoce.formats.format import labels
    from sottovoce.metrics.kinds import metric_kinds
    from sottovoce.quantization.method import methods
    from sottovoce.recipe.step import step_classes

    steps = {name: (kind.__doc__ or "").strip().partition("\n")[0] for name, kind in sorted(step_classes().items())}
    return {
        "step": steps,
        "method": {name: kind.description.en for name, kind in methods().items()},
        "metric": {name: kind.label.en for name, kind in sorted(metric_kinds().items())},
        "format": {name: label.en for name, label in labels().items()},
    }
