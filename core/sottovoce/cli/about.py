"""Commands ``sottovoce plugins``, ``recipes`` and ``env``, which describe the installation."""

from __future__ import annotations

from collections.abc import Mapping

import click

import sottovoce
from sottovoce.cli.output import Output, verb
from sottovoce.errors import PluginError


@click.command()
@verb
def plugins(out: Output) -> None:
    """List the installed plugins, and everything that they and core bring.

    That is: model families, commands, steps of recipes, quantization methods, metrics and export formats.
    """
    from rich.console import Group
    from rich.table import Table

    from sottovoce.plugins.host import default_host

    host = default_host()
    rows = [
        {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version, "error": plugin.error}
        for plugin in host.plugins
    ]
    families = {name: list(architecture.matches) for name, architecture in host.architectures.items()}
    try:
        commands = sorted(host.commands())
    except PluginError as error:
        out.note(f"warning: no plugin's command is listed: {error}")
        commands = []
    declared = _declared()

    def listing(title: str, entries: Mapping[str, str]) -> Table:
        table = Table(title, "", box=None, padding=(0, 2, 0, 0))
        for name, text in entries.items():
            table.add_row(name, text)
        return table

    def tables() -> Group:
        table = Table("plugin", "distribution", "version", "state")
        for row in rows:
            table.add_row(row["name"], row["distribution"], row["version"], row["error"] or "loaded")
        lists = {"family": {name: ", ".join(classes) for name, classes in families.items()}, **declared}
        if commands:
            lists["command"] = dict.fromkeys(commands, "")
        return Group(table, *(listing(title, entries) for title, entries in lists.items() if entries))

    keys = {f"{name}s": entries for name, entries in declared.items()}
    out.result({"plugins": rows, "architectures": families, "commands": commands, **keys}, tables)


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


@click.command()
@verb
def recipes(out: Output) -> None:
    """List the recipes that have a name."""
    from rich.table import Table

    from sottovoce.plugins.host import default_host

    presets = default_host().presets

    def table() -> Table:
        table = Table("recipe", "steps")
        for name, recipe in presets.items():
            table.add_row(name, recipe.to_yaml().strip())
        return table

    out.result({name: recipe.to_dict() for name, recipe in presets.items()}, table)


@click.command()
@verb
def env(out: Output) -> None:
    """Show what a bug report needs: machine, versions, engines, plugins."""
    from rich.table import Table

    from sottovoce.plugins.host import default_host
    from sottovoce.runtime.backends.int8_engine import engine, gpu_engines
    from sottovoce.runtime.kernels import availability
    from sottovoce.system.machine import describe_machine

    facts = {
        "sottovoce": sottovoce.__version__,
        **describe_machine(),
        "int8_engine": engine(),
        "kernels": f"torch ({reason})" if (reason := availability.obstacle()) else "numba",
        **({"gpus": gpus} if (gpus := gpu_engines()) else {}),
        "plugins": {plugin.name: plugin.error or plugin.version for plugin in default_host().plugins},
    }

    def table() -> Table:
        table = Table(show_header=False)
        for key, entry in facts.items():
            text = (
                ", ".join(f"{name} {value}" for name, value in entry.items()) if isinstance(entry, dict) else str(entry)
            )
            table.add_row(key, text)
        return table

    out.result(facts, table)
