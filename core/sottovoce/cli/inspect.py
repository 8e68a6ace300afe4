"""Command ``sottovoce inspect``."""

from __future__ import annotations

from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.names import RecipeName
from sottovoce.cli.output import Output, verb


@click.command(
    cls=Command,
    section="Compress",
    examples=("sottovoce inspect MODEL --recipe int8",),
)
@click.argument("model")
@options.option(
    "--recipe",
    "-r",
    type=RecipeName(),
    help="A recipe's name or file: shows what it would do, and the size it would give.",
)
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@verb
def inspect(out: Output, model: str, recipe: str | None, **where: Any) -> None:
    """Show what would be compressed, what would not and why. Runs nothing."""
    from sottovoce.entrypoints.inspect import inspect as inspect_model
    from sottovoce.reports import tables

    facts = inspect_model(model, recipe, **where)
    out.result(facts, lambda: tables.inspection(facts))
