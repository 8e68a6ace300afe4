"""Reports as cards are written from them: checked, and described to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sottovoce.checkpoint.report_file import read_report
from sottovoce.entrypoints.describe import describe
from sottovoce.errors import PublishError
from sottovoce.plugins.host import default_host
from sottovoce.report import COMPRESSION_FILE, CompressionReport


def read(directory: Path) -> CompressionReport:
    """Read the report of a model's directory.

    Raises:
        PublishError: There is none, or it is damaged.
    """
    path = directory / COMPRESSION_FILE
    try:
        return _described(read_report(directory))
    except FileNotFoundError:
        raise PublishError(f"{directory}: has no {COMPRESSION_FILE}; publish what `sottovoce compress` wrote") from None
    except (OSError, ValueError) as error:
        raise PublishError(f"{path}: cannot be read ({error}); make the model again") from None


def check(form: Any) -> CompressionReport:
    """Check the form of a ``compression.json``.

    Raises:
        PublishError: It is not what Sottovoce writes.
    """
    try:
        return _described(CompressionReport.from_dict(form))
    except ValueError as error:
        raise PublishError(f"{COMPRESSION_FILE}: {error}; make the model again") from None


def _described(report: CompressionReport) -> CompressionReport:
    metrics = [metric for evaluation in report.evaluations for metric in evaluation.metrics.values()]
    if any(step.summary is None for step in report.steps) or any(metric.label is None for metric in metrics):
        default_host()  # Importing the plugins registers the steps and metrics that they declare.
    return describe(report)
