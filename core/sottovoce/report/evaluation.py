"""The report of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator

from sottovoce.report import notes, number_format
from sottovoce.report.facts import Dataset, Machine, SampleSet
from sottovoce.report.fields import Count, Record
from sottovoce.report.metric import Metric
from sottovoce.report.paired_test import Interval, PairedTest
from sottovoce.report.plain_table import PlainTable
from sottovoce.text.plain_text import one_line

_LONGEST = 1000


def named_metrics(metrics: Any) -> Any:
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
    metrics: Annotated[Mapping[str, Metric], BeforeValidator(named_metrics)]
    machine: Machine
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Confidence intervals by metric."""
    baseline_intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Those of the baseline."""
    tests: Mapping[str, PairedTest] = field(default_factory=dict)
    """Comparisons with the baseline by metric."""
    baseline: str | None = None
    baseline_fingerprint: str | None = None
    """Digest by which the baseline's weights are recognized."""
    dataset: Dataset | None = None
    """Name of the data on a hub."""
    date: str = ""
    """Day of the measurement, ISO 8601."""
    trained_on: Count = 0
    """Number of the samples that the model was trained on, as far as is known: they measure nothing."""
    cut_off: Count = 0
    """Number of the model's outputs that end at its limit of tokens, unfinished."""
    baseline_cut_off: Count = 0
    """Number of the baseline's outputs that do."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what the numbers do not say."""
        samples = self.samples.count
        return (
            *notes.too_short(self.samples.too_short, samples),
            *notes.trained_on(self.model, self.trained_on, samples),
            *notes.cut_off(self.model, self.cut_off, samples),
            *notes.cut_off(self.baseline or "the baseline", self.baseline_cut_off, samples),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without counts of what never happened, nor intervals and tests where there are none."""
        rare = ("trained_on", "cut_off", "baseline_cut_off", "intervals", "baseline_intervals", "tests")
        return {key: value for key, value in super().to_dict().items() if value or key not in rare}

    def table(self) -> PlainTable:
        """Return the table that printing the report shows."""
        return _tabulate(self)

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


def _tabulate(report: EvaluationReport) -> PlainTable:
    """Return one row a metric; with a baseline, its values and the changes beside them."""
    samples, beside = report.samples, report.baseline is not None
    title = (
        f"{report.model}: {number_format.counted(samples.count, 'sample')}, {samples.audio_seconds or 0:.0f} s of audio"
    )
    header = ("metric", "baseline", "model", "change") if beside else ("metric", "model")
    rows = [_metric_row(report, metric, beside) for metric in report.metrics.values()]
    return PlainTable(title, rows, header, report.notes)


def _metric_row(report: EvaluationReport, metric: Metric, beside: bool) -> tuple[str, ...]:
    value = _with_interval(number_format.value(metric.value, metric.unit), report.intervals.get(metric.name))
    match metric.details.get("quartiles"):
        case [int() | float() as low, int() | float() as high]:
            value += f" ({low:.2f} to {high:.2f})"
    name = str(metric.label or metric.name)
    if not beside:
        return name, value
    baseline = number_format.value(metric.baseline, metric.unit)
    test = report.tests.get(metric.name)
    p = "" if test is None else f" (p {number_format.probability(test.p)})"
    return (
        name,
        _with_interval(baseline, report.baseline_intervals.get(metric.name)),
        value,
        f"{change(metric)}{p}",
    )


def _with_interval(value: str, interval: Interval | None) -> str:
    return value if interval is None else f"{value} {number_format.interval(interval.low, interval.high)}"


def change(metric: Metric) -> str:
    """Return the change from the baseline: a factor for costs, a difference for other metrics."""
    if metric.value is None or metric.baseline is None:
        return ""
    if metric.turns is not None:
        ratio = metric.turns.ratio
        return f"x {ratio.median:.2f} ({ratio.quartiles[0]:.2f} to {ratio.quartiles[1]:.2f})"
    if metric.kind == "cost":
        return f"x {metric.value / metric.baseline:.2f}" if metric.baseline else ""
    unit = "points" if metric.unit == "%" else metric.unit
    difference = metric.value - metric.baseline
    return f"{difference:+d} {unit}" if isinstance(difference, int) else f"{difference:+.2f} {unit}".rstrip()
