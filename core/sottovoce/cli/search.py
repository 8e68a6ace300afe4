"""Command ``sottovoce search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.limits import limit
from sottovoce.cli.names import SearchedSteps
from sottovoce.cli.output import Output, verb

_CACHE = ".sottovoce-search"


@click.command(
    cls=Command,
    section="Compress",
    examples=(
        "sottovoce search MODEL --data calibration.jsonl --budget x0.2 --output recipe.yaml",
        "sottovoce search MODEL --data calibration.jsonl --budget 2MB --steps quantize,prune_width --output small.yaml",
    ),
)
@click.argument("model")
@options.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Calibration samples: a manifest.", section="Data"
)
@options.option(
    "--budget",
    "budgets",
    required=True,
    multiple=True,
    help="Size of the weights on disk (2.4MB, or x0.3 of MODEL's) or time (latency=x0.5); may be repeated.",
)
@options.option(
    "--limit", "limits", multiple=True, metavar="LIMIT=BOUND", help="Bound that holds too, as max_cer_increase=0.1."
)
@options.option(
    "--steps",
    type=SearchedSteps(),
    metavar="STEPS",
    default="quantize,cast",
    help="Steps to use: quantize, prune_layers, prune_experts, prune_heads, prune_width, cast; prune_layers=PART for a "
    "part, quantize=2,3,4,8 for the bits that weights may have.",
)
@options.option(
    "--held-out",
    type=click.Path(path_type=Path),
    help="Samples to measure the recipe on: a manifest; by default half of --data, by what the rest calibrates.",
    section="Data",
)
@options.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="Recipe to write; other files lie beside it.",
    section="Output",
)
@options.option(
    "--cache",
    type=click.Path(path_type=Path),
    help=f"Directory for measurements, for other budgets too; by default {_CACHE} beside the output.",
    section="Output",
)
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.option("--overwrite", is_flag=True, help="Replace the recipe when it exists.", section="Output")
@verb
def search(
    out: Output,
    model: str,
    data: Path,
    budgets: tuple[str, ...],
    limits: tuple[str, ...],
    steps: str,
    held_out: Path | None,
    output: Path,
    cache: Path | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Search for the recipe of MODEL that loses least within a budget.

    Writes an ordinary recipe for `sottovoce compress`, and sensitivity.json with all that was measured. An interrupted
    search resumes when the same command is run again.
    """
    from sottovoce.entrypoints import load
    from sottovoce.entrypoints import search as entrypoint
    from sottovoce.recipe_search import files, table
    from sottovoce.recipe_search.budget import parse_budget
    from sottovoce.recipe_search.solver import require_solver
    from sottovoce.recipe_search.structures import parse_steps, split_steps
    from sottovoce.samples import read_samples

    # Errors in the arguments are reported before the model is read.
    parse_budget(budgets)
    bounds = dict(map(limit, limits))
    names = split_steps(steps)
    parse_steps(names)
    require_solver()
    files.require_free(output, overwrite)
    samples = read_samples(data)
    others = read_samples(held_out) if held_out is not None else None
    loaded = load.load(model, **where)
    with out.progress() as progress:
        result = entrypoint.search(
            loaded,
            samples,
            budgets,
            limits=bounds,
            steps=names,
            held_out=others,
            cache=cache or output.parent / _CACHE,
            progress=progress,
        )
    for note in (*result.notes, *files.write(result, output)):
        out.note(f"note: {note}")
    out.result(result.to_dict(), lambda: table.of_search(result, output))
