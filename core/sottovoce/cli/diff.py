"""Command ``sottovoce diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb


@click.command(
    cls=Command,
    section="Measure",
    examples=("sottovoce diff SMALL MODEL --data test.jsonl --key utterance-17",),
)
@click.argument("model")
@click.argument("baseline")
@options.option(
    "--data", required=True, type=click.Path(path_type=Path), help="A .jsonl manifest, or a Kaldi directory."
)
@options.option("--key", required=True, help="Key of the sample to explain.")
@options.option("--blocks", "by_block", is_flag=True, help="Put whole blocks back rather than single layers.")
@options.option("--top", default=15, type=click.IntRange(min=1), help="Rows of the table.")
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@verb
def diff(out: Output, model: str, baseline: str, data: Path, key: str, by_block: bool, top: int, **where: Any) -> None:
    """Explain what compression changed for one sample, and which layers account for it.

    Every layer of MODEL that differs is made that of BASELINE again, one at a time. The table begins with the layers
    that bring MODEL's logits closest to BASELINE's.
    """
    from sottovoce.entrypoints import diff as entrypoint
    from sottovoce.reports import tables

    with out.progress() as progress:
        explanation = entrypoint.diff(model, baseline, data, key, by_block=by_block, progress=progress, **where)
    for note in explanation.notes:
        out.note(f"note: {note}")
    out.result(explanation.to_dict(), lambda: tables.explanation(explanation, top))
