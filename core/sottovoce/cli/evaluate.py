"""Command ``sottovoce evaluate``."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import click

from sottovoce.cli import options
from sottovoce.cli.command import Command
from sottovoce.cli.output import Output, verb
from sottovoce.system import distributed


@click.command(
    cls=Command,
    section="Measure",
    examples=(
        "sottovoce evaluate SMALL --data test.jsonl --baseline MODEL",
        "sottovoce evaluate SMALL --data test.jsonl --baseline MODEL --record",
    ),
)
@click.argument("model")
@options.option(
    "--data", required=True, type=click.Path(path_type=Path), help="A .jsonl manifest, or a Kaldi directory."
)
@options.option("--baseline", help="A model to compare with, usually the uncompressed one.")
@options.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Directory for results and a page.", section="Output"
)
@options.option(
    "--record", is_flag=True, help="Add the metrics to MODEL's compression.json, for its card.", section="Output"
)
@options.option(
    "--dataset", help="Name of DATA on a hub, for the card: owner/name, or owner/name@revision#task.", section="Output"
)
@options.device
@options.hub
@options.revision
@options.weights
@options.allow_unexpected
@options.overwrite
@verb
def evaluate(
    out: Output,
    model: str,
    data: Path,
    baseline: str | None,
    output: Path | None,
    record: bool,
    dataset: str | None,
    overwrite: bool,
    **where: Any,
) -> None:
    """Measure MODEL on DATA: error rates, speed, size, memory, next to those of a baseline if one is given.

    OUTPUT gets evaluation.json, the page evaluation.html, and predictions.jsonl with what was said of each sample.

    Several processes divide the samples: torchrun --nproc_per_node 2 -m sottovoce evaluate MODEL ...
    """
    from sottovoce.checkpoint.directory import new_directory, reserved
    from sottovoce.checkpoint.ownership import EVALUATION_FILE
    from sottovoce.entrypoints import evaluate
    from sottovoce.entrypoints import record as records
    from sottovoce.entrypoints.comparison.evaluation import evaluation_files
    from sottovoce.metrics.kinds import recorded
    from sottovoce.report import to_json
    from sottovoce.reports import tables

    if record:
        records.require_recordable(model, baseline)
    named = records.read_dataset(dataset) if dataset else None
    writes = output is not None and distributed.is_main()
    with reserved(output, overwrite, _is_evaluation) if output and writes else contextlib.nullcontext():
        with out.progress() as progress:
            evaluated = evaluate.evaluate_with_runs(model, data, baseline, progress=progress, **where)
        report = dataclasses.replace(evaluated.report, dataset=named)
        if busy := report.machine.get("busy"):
            how = "on an idle machine" if report.machine.processes == 1 else "in one process"
            out.note(f"warning: {busy}; the times are not recorded: measure them again {how}")
        # Samples that were trained on are an error where the report is recorded.
        for note in report.notes if not (record and report.trained_on) else ():
            out.note(f"warning: {note}")
        if record and distributed.is_main():
            records.record(report, model)
        form = dataclasses.replace(report, metrics=recorded(report.metrics, report.machine)).to_dict()
        if output and writes:
            with new_directory(output, overwrite, _is_evaluation) as temporary:
                files = {EVALUATION_FILE: to_json(form, indent=1) + "\n"}
                files |= evaluation_files(evaluated, model, baseline, where)
                for name, text in files.items():
                    (temporary / name).write_text(text, encoding="utf-8")
    out.result(form, lambda: tables.of_report(report))


def _is_evaluation(directory: Path) -> bool:
    """Return true for an earlier evaluation or an empty directory: an evaluation must not replace a model."""
    from sottovoce.checkpoint.ownership import holds_only_evaluation

    return holds_only_evaluation(directory)
