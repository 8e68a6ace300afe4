"""``sottovoce evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.output import Output, verb


@click.command()
@click.argument("model")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A .jsonl manifest, or a Kaldi directory.")
@click.option("--baseline", help="A model to compare with, usually the uncompressed one.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Directory for evaluation.json.")
@options.device
@options.hub
@options.revision
@options.overwrite
@verb
def evaluate(
    out: Output, model: str, data: Path, baseline: str | None, output: Path | None, overwrite: bool, **where: Any
) -> None:
    """Measure MODEL on DATA: error rates, speed, size, memory; beside a baseline when one is given."""
    from sottovoce import evaluation, tables
    from sottovoce.checkpoint.directory import new_directory, refuse_existing

    if output is not None:
        refuse_existing(output, overwrite)
    with out.progress() as progress:
        report = evaluation.evaluate(model, data, baseline, progress=progress, **where)
    form = report.to_dict()
    if output is not None:
        with new_directory(output, overwrite) as temporary:
            text = json.dumps(form, indent=1, ensure_ascii=False) + "\n"
            (temporary / "evaluation.json").write_text(text, encoding="utf-8")
    out.result(form, lambda: tables.evaluation(report))
