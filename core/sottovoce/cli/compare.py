"""Command ``sottovoce compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.names import RecipeNames
from sottovoce.cli.output import Output, verb
from sottovoce.errors import UsageError


@click.command(
    cls=Command,
    section="Measure",
    examples=(
        "sottovoce compare MODEL --recipes int8,int4 --data calibration.jsonl --test test.jsonl --output DIR",
        "sottovoce compare SMALL SMALLER --baseline MODEL --data test.jsonl --output DIR",
    ),
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@options.option(
    "--recipes",
    "-r",
    type=RecipeNames(),
    metavar="RECIPES",
    help="Recipes to compress one MODEL by, with commas: names or files.",
)
@options.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Samples with references, a manifest: to calibrate on with --recipes, else to measure on.",
    section="Data",
)
@options.option(
    "--test", type=click.Path(path_type=Path), help="Samples to measure on; by default DATA.", section="Data"
)
@options.option("--max-size", metavar="SIZE", help="Most bytes of the weights: 2.4MB, or x0.3 of MODEL's.")
@options.option("--baseline", metavar="MODEL", help="Model to compare finished ones with; by default the best of them.")
@options.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Directory to write.", section="Output"
)
@options.option("--audio", is_flag=True, help="Put the audio of the listed utterances into the page.", section="Output")
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.option(
    "--overwrite",
    is_flag=True,
    help="Replace an earlier comparison; variants that are the same are kept.",
    section="Output",
)
@verb
def compare(
    out: Output,
    models: tuple[str, ...],
    recipes: str | None,
    data: Path,
    test: Path | None,
    max_size: str | None,
    baseline: str | None,
    output: Path,
    audio: bool,
    overwrite: bool,
    **where: Any,
) -> None:
    """Compare models on the same samples, in one table and one page, and name the one to take.

    With --recipes, MODEL is compressed by each recipe that fits --max-size, into OUTPUT/NAME. Without, the MODELs are
    finished ones. An interrupted comparison resumes when the same command is run again.

    Writes comparison.html, comparison.json and predictions.jsonl.
    """
    from sottovoce.entrypoints import compare as entrypoint
    from sottovoce.entrypoints.comparison.files import recorded
    from sottovoce.reports import tables

    names = [name.strip() for name in recipes.split(",") if name.strip()] if recipes is not None else []
    if recipes is not None and not names:
        raise UsageError("--recipes names no recipe; give some, such as int8,int4")
    with out.progress() as progress:
        comparison = entrypoint.compare(
            models,
            test or data,
            recipes=names,
            calibration=data if test is not None and names else None,
            baseline=baseline,
            max_size=max_size,
            output=output,
            overwrite=overwrite,
            audio=audio,
            progress=progress,
            **where,
        )
    if busy := comparison.machine.busy:
        out.note(f"warning: {busy}; the times are not recorded: measure them again on an idle machine")
    for note in comparison.notes:
        out.note(f"note: {note}")
    out.result(recorded(comparison).to_dict(), lambda: tables.comparison(comparison, output))
