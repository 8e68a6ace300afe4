"""``sottovoce compress``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.output import Output, verb
from sottovoce.cli.size import SIZE
from sottovoce.errors import UsageError


@click.command()
@click.argument("model")
@click.option("--recipe", "-r", required=True, help="A recipe's name (see `sottovoce recipes`) or a YAML or JSON file.")
@options.output
@click.option("--data", type=click.Path(path_type=Path), help="Calibration samples, for recipes that need them.")
@click.option(
    "--samples", "count", type=click.IntRange(min=1), help="How many of DATA to calibrate on; by default all."
)
@click.option("--seed", default=0, show_default=True, help="Which of them, with --samples.")
@click.option("--gate-data", type=click.Path(path_type=Path), help="What a recipe's gate is measured on; else DATA.")
@click.option("--max-memory", type=SIZE, help="Memory to stay within while calibrating, such as 8GB; the rest to disk.")
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.overwrite
@verb
def compress(
    out: Output,
    model: str,
    recipe: str,
    output: Path,
    data: Path | None,
    count: int | None,
    seed: int,
    gate_data: Path | None,
    max_memory: int | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Compress MODEL by a recipe and write it to a directory.

    A calibrating recipe that is interrupted goes on at the last finished block when the same command is given again.
    """
    from sottovoce.checkpoint.directory import reserved
    from sottovoce.entrypoints import compress, load, save
    from sottovoce.plugins.host import default_host
    from sottovoce.reports import tables
    from sottovoce.samples import read_samples

    # All that can be wrong is looked at before the model is read, and what can be wrong with the two before the work.
    with reserved(output, overwrite):
        chosen = default_host().recipe(recipe)
        if count and not data:
            raise UsageError("--samples says how many of --data to calibrate on: give --data too")
        samples = read_samples(data) if data else None
        if samples and count:
            samples = samples.choose(count, seed)
        gate_samples = read_samples(gate_data) if gate_data else None
        compress.require_samples(chosen, samples)
        loaded = load.load(model, max_memory=max_memory, **where)
        save.refuse_source(loaded, output)
        finished = output.with_name(f".{output.name}.unfinished")
        with out.progress() as progress:
            report = compress.compress(
                loaded, chosen, samples, gate_samples=gate_samples, max_memory=max_memory,
                resume=finished if samples or loaded.stream else None, progress=progress,
            )  # fmt: skip
            save.save(loaded, output, overwrite=overwrite)
        shutil.rmtree(finished, ignore_errors=True)
    out.result(report.to_dict(), lambda: tables.of_report(report))
