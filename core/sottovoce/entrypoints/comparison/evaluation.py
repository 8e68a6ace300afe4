"""Page and predictions of an evaluation: the model, and its baseline if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce.checkpoint.ownership import EVALUATION_PAGE, PREDICTIONS_FILE
from sottovoce.entrypoints.comparison.build import Entry, Setting, build, utterances_of
from sottovoce.entrypoints.comparison.files import evaluation_predictions, fitted
from sottovoce.entrypoints.comparison.subjects import distinct, locate_model, own_options
from sottovoce.entrypoints.evaluate import Evaluated
from sottovoce.plugins.host import Host, default_host
from sottovoce.report import to_json


def evaluation_files(
    evaluated: Evaluated, model: str, baseline: str | None, options: Mapping[str, Any], host: Host | None = None
) -> dict[str, str]:
    """Return ``evaluation.html`` and ``predictions.jsonl`` by their names.

    Args:
        evaluated: The evaluation with its runs.
        model: Directory, alias or hub id of the model.
        baseline: That of the baseline, if there is one.
        options: Options that the model was loaded with.
        host: The plugins; by default the process's own.
    """
    plugins = host or default_host()
    subjects = [] if baseline is None else [locate_model(baseline, own_options(options), plugins)]
    subjects.append(locate_model(model, options, plugins))
    subjects = distinct(subjects)
    entries = [
        Entry(subject.name, measurement, subject.report, subject.command)
        for subject, measurement in zip(subjects, evaluated.measurements, strict=True)
    ]
    setting = Setting(
        title=", ".join(entry.name for entry in entries[::-1]),
        samples=evaluated.samples,
        architecture=subjects[-1].architecture,
        heading="Evaluation",
    )
    comparison, page = fitted(lambda listed: build(entries, setting, listed))
    lines = evaluation_predictions(entries, utterances_of(entries, comparison, setting), evaluated.samples)
    return {EVALUATION_PAGE: page, PREDICTIONS_FILE: "".join(f"{to_json(line)}\n" for line in lines)}
