"""Recording of evaluations in a model's ``compression.json``, which its card is written from."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.model_card import fingerprint
from sottovoce.checkpoint.report_file import read_report
from sottovoce.errors import OutputError, SourceError, UsageError
from sottovoce.metrics.kinds import recorded
from sottovoce.report import COMPRESSION_FILE, BaseModel, Dataset, EvaluationReport, to_json
from sottovoce.report.number_format import counted
from sottovoce.system.atomic_write import write_atomically

_DATASET = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(#(?P<task>[\w.-]+))?")


def read_dataset(text: str) -> Dataset:
    """Read the id of a dataset on a hub: ``owner/name``, with an optional ``@revision`` and ``#task``.

    Raises:
        UsageError: The text has another form.
    """
    match = _DATASET.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r}: write a dataset as owner/name, owner/name@revision or owner/name@revision#task")
    return Dataset(**match.groupdict())


def require_recordable(directory: str | os.PathLike[str], baseline: str | os.PathLike[str] | None = None) -> None:
    """Check that an evaluation of ``directory`` can be recorded there, before the time is spent.

    Args:
        directory: A directory that ``compress`` wrote.
        baseline: The model to compare with; an id on a hub is checked by :func:`record` alone.

    Raises:
        UsageError: Sottovoce did not write the directory, it may not be written, or the baseline is another model than
            the one that was compressed.
        SourceError: The file is damaged.
    """
    path = Path(directory) / COMPRESSION_FILE
    if not path.is_file():
        raise UsageError(f"{directory}: there is no {COMPRESSION_FILE} to record in; give what compress wrote")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{directory}: may not be written; copy it to a directory of your own first")
    if baseline is not None and Path(baseline).is_dir():
        _require_source(directory, baseline, fingerprint(Path(baseline)), _read_source(path))


def record(evaluation: EvaluationReport, directory: str | os.PathLike[str]) -> None:
    """Record an evaluation in a compressed model's ``compression.json``; one of the same data is replaced.

    Args:
        evaluation: The report of :func:`sottovoce.evaluate` on the model in ``directory``.
        directory: A directory that ``compress`` wrote.

    Raises:
        UsageError: Sottovoce did not write the directory, the baseline is not the model that was compressed, or the
            model was trained on some of the samples.
        OutputError: The file system refused; the file is unchanged.
        SourceError: The file is damaged.
    """
    require_recordable(directory)
    if evaluation.trained_on:
        raise UsageError(
            f"{directory}: the model was trained on {evaluation.trained_on} of "
            f"{counted(evaluation.samples.count, 'sample')}; measure on others"
        )
    path = Path(directory) / COMPRESSION_FILE
    source = _read_source(path)
    # The file is written again as it was read, with all keys that a later version may have added.
    form = json.loads(path.read_text(encoding="utf-8"))
    if evaluation.baseline is not None:
        _require_source(evaluation.model, evaluation.baseline, evaluation.baseline_fingerprint, source)
    names: dict[str, Any] = {"model": Path(evaluation.model).name}
    if evaluation.baseline is not None:
        names["baseline"] = source.name
    metrics = recorded(evaluation.metrics, evaluation.machine)
    entry = dataclasses.replace(evaluation, metrics=metrics, **names).to_dict()
    others = [other for other in form.get("evaluations", ()) if _data(other) != _data(entry)]
    form["evaluations"] = [*others, entry]
    _replace(path, to_json(form, indent=1))


def _read_source(path: Path) -> BaseModel:
    try:
        return read_report(path.parent).source
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch or make the model again") from None


def _require_source(
    model: str | os.PathLike[str], baseline: str | os.PathLike[str], digest: str | None, source: BaseModel
) -> None:
    if digest != source.fingerprint:
        raise UsageError(
            f"{baseline}: is not the model that {model} was compressed from; "
            f"give {source.name} as the baseline, or record without one"
        )


def _data(evaluation: Mapping[str, Any]) -> Any:
    return evaluation["samples"].get("sha256"), (evaluation.get("dataset") or {}).get("id")


def _replace(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise OutputError(f"{path}: could not be written and is unchanged ({error.strerror or error})") from error
