"""Commands ``sottovoce plugins``, ``recipes`` and ``env``, which describe the installation."""

from __future__ import annotations

import click

import sottovoce
from sottovoce.cli.output import Output, verb


@click.command()
@verb
def plugins(out: Output) -> None:
    """List the installed plugins and the model families they know."""
    from rich.table import Table

    from sottovoce.plugins.host import default_host

    host = default_host()
    keys = ("name", "distribution", "version", "error")
    rows = [{key: getattr(plugin, key) for key in keys} for plugin in host.plugins]
    families = {name: list(architecture.matches) for name, architecture in host.architectures.items()}

    def table() -> Table:
        table = Table("plugin", "distribution", "version", "state")
        for row in rows:
            table.add_row(row["name"], row["distribution"], row["version"], row["error"] or "loaded")
        table.caption = "\n".join(f"{name}: {', '.join(classes)}" for name, classes in families.items())
        return table

    out.result({"plugins": rows, "architectures": families}, table)


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
