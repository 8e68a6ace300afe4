"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from sottovoce.report import number_format
from sottovoce.report.facts import Dataset, Machine, SampleSet
from sottovoce.report.fields import Record
from sottovoce.report.metric import Metric
from sottovoce.report.plain_table import PlainTable
from sottovoce.report.rows import tabulate_evaluation
from sottovoce.text.plain_text import one_line

_LONGEST = 1000


def _named(metrics: Any) -> Any:
    """Give every metric its name, which in JSON is its key."""
    if not isinstance(metrics, Mapping):
        return metrics
    details = [form.get("details") if isinstance(form, Mapping) else None for form in map(metrics.get, ("cer", "wer"))]
    # Reports of before have a wer for Chinese, which counted what cer did.
    twin = {"wer"} if details[0] is not None and details[0] == details[1] else set()
    return {
        name: {**form, "name": name} if isinstance(form, Mapping) else form
        for name, form in metrics.items()
        if name not in twin
    }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EvaluationReport(Record):
    """The result of ``evaluate``: the model, the data, the machine, the numbers."""

    model: str
    architecture: str
    samples: SampleSet
    metrics: Annotated[Mapping[str, Metric], BeforeValidator(_named)]
    machine: Machine
    baseline: str | None = None
    baseline_fingerprint: str | None = None
    """Digest by which the baseline's weights are recognized."""
    dataset: Dataset | None = None
    """Name of the data on a hub."""
    date: str = ""
    """Day of the measurement, ISO 8601."""

    def table(self) -> PlainTable:
        """Return the table that printing the report shows."""
        return tabulate_evaluation(self)

    def __str__(self) -> str:
        """Return the table."""
        return str(self.table())

    def __repr__(self) -> str:
        """Return what identifies the report, on one line."""
        metrics = ", ".join(
            f"{name} {number_format.value(metric.value, metric.unit)}" for name, metric in self.metrics.items()
        )
        return one_line(f"<EvaluationReport of {self.model}: {metrics}>", _LONGEST)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it."""
        return self.table().to_html()
