"""``sottovoce compress``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.output import Output, verb


@click.command()
@click.argument("model")
@click.option("--recipe", "-r", required=True, help="A recipe's name (see `sottovoce recipes`) or a YAML or JSON file.")
@options.output
@click.option("--data", type=click.Path(path_type=Path), help="Calibration samples, for recipes that need them.")
@options.device
@options.hub
@options.revision
@options.overwrite
@verb
def compress(
    out: Output, model: str, recipe: str, output: Path, data: Path | None, overwrite: bool, **where: Any
) -> None:
    """Compress MODEL by a recipe and write it to a directory."""
    from sottovoce import loading, pipeline, tables
    from sottovoce.checkpoint.directory import refuse_existing
    from sottovoce.host import default_host
    from sottovoce.samples import read_samples

    # All that can be wrong is looked at before the model is read.
    refuse_existing(output, overwrite)
    chosen = default_host().recipe(recipe)
    samples = read_samples(data) if data else None
    loaded = loading.load(model, **where)
    with out.progress() as progress:
        report = pipeline.compress(loaded, chosen, samples, progress=progress)
        pipeline.save(loaded, output, overwrite=overwrite)
    form = report.to_dict()
    out.result(form, lambda: tables.compression(form))
