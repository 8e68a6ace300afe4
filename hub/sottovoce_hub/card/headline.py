"""The metric that speaks for a model, and what may stand beside it."""

from __future__ import annotations

from dataclasses import dataclass

from sottovoce.metrics import cost
from sottovoce.metrics.headline import headline as first_ranked
from sottovoce.report import CompressionReport, EvaluationReport, Metric


@dataclass(frozen=True)
class Headline:
    """The metric that speaks for a model's quality."""

    metric: Metric
    evaluation: EvaluationReport


def is_quality(metric: Metric) -> bool:
    """Return true for a metric of how well a model works, rather than of what it costs."""
    return metric.kind != "cost"


def arrow(metric: Metric) -> str:
    """Return the better direction of a metric as an arrow; nothing where it has none."""
    return {"higher": "↑", "lower": "↓"}.get(metric.better or "", "")


def headline(report: CompressionReport) -> Headline | None:
    """Return the first headline metric of the first evaluation that has one."""
    language = report.family.languages[0] if report.family.languages else ""
    for evaluation in report.evaluations:
        if (first := first_ranked(evaluation.metrics.values(), language)) is not None:
            return Headline(first, evaluation)
    return None


def same_metric(report: CompressionReport, reference: Headline) -> Headline | None:
    """Return the same metric of another model on the same samples; on others it could not be compared."""
    for evaluation in report.evaluations:
        metric = evaluation.metrics.get(reference.metric.name)
        if _same_samples(evaluation, reference.evaluation) and metric is not None and metric.value is not None:
            return Headline(metric, evaluation)
    return None


def same_machine(first: EvaluationReport, second: EvaluationReport) -> bool:
    """Return true if times of two evaluations can be compared."""
    fields = ("processor", "cores", "threads")
    return all(first.machine[name] == second.machine[name] for name in fields)


def speed(evaluation: EvaluationReport) -> Metric | None:
    """Return the metric of speed: the real-time factor where there was audio, else the latency."""
    metrics = (evaluation.metrics.get(kind.name) for kind in (cost.RTF, cost.LATENCY))
    return next((metric for metric in metrics if metric is not None and metric.value is not None), None)


def _same_samples(first: EvaluationReport, second: EvaluationReport) -> bool:
    return first.samples.sha256 is not None and first.samples.sha256 == second.samples.sha256
