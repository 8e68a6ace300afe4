"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from sottovoce.report.facts import Dataset, Machine, SampleSet
from sottovoce.report.fields import Record, to_form
from sottovoce.report.metric import Metric


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


@dataclass(frozen=True, kw_only=True, eq=False)
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
    """What a hub calls the data."""
    date: str = ""
    """Day of the measurement, ISO 8601."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {key: to_form(self[key]) for key in self}
