"""Command ``sottovoce recipes``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sottovoce.cli.command import Command
from sottovoce.cli.names import RecipeName
from sottovoce.cli.output import Output, verb

if TYPE_CHECKING:
    from rich.table import Table

    from sottovoce.plugins.host import Host


@click.command(cls=Command, section="Begin", examples=("sottovoce recipes", "sottovoce recipes int8 > mine.yaml"))
@click.argument("name", required=False, type=RecipeName())
@verb
def recipes(out: Output, name: str | None) -> None:
    """List the recipes that have a name, or print one as YAML, to begin a recipe of your own with."""
    from sottovoce.plugins.host import default_host

    host = default_host()
    if name is not None:
        recipe = host.recipe(name)
        if out.as_json:
            out.json(recipe.to_dict())
        else:
            out.text(recipe.to_yaml())
        return
    out.result({title: recipe.to_dict() for title, recipe in host.presets.items()}, lambda: _table(host))


def _table(host: Host) -> Table:
    from rich.table import Table

    table = Table("recipe", "use it when", "bits", "needs", "families", box=None, padding=(0, 2, 0, 0))
    everyone = set(host.architectures)
    for name, recipe in host.presets.items():
        bits = [step.stored_bits for step in recipe.steps if step.stored_bits]
        families = host.families_of(name)
        table.add_row(
            name,
            recipe.description or "",
            ", ".join(bits) or "as they are",
            _needs(recipe.needs_calibration, recipe.needs_training_samples),
            "all" if set(families) == everyone else ", ".join(families),
        )
    return table


def _needs(calibration: bool, training: bool) -> str:
    kinds = [kind for kind, needed in (("calibration", calibration), ("training", training)) if needed]
    return f"samples ({', '.join(kinds)})" if kinds else "no samples"
