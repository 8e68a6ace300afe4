"""Which figures tell quality and which cost, which one speaks for a model, and which may stand side by side."""

from __future__ import annotations

from dataclasses import dataclass

from sottovoce_hub.card.facts import Evaluation, Measure
from sottovoce_hub.card.report import Report

COSTS = ("size_bytes", "latency_ms", "rtf", "peak_memory_bytes", "peak_gpu_memory_bytes", "expert_runs")
"""What a model costs to keep and to run: compared by factors."""
AGAINST_BASE = (
    "token_agreement", "boundary_agreement", "boundary_shift_from_baseline_ms", "boundary_shift_max_ms", "divergence",
)  # fmt: skip
"""Compared with the base model already, which therefore has no value of its own."""
HIGHER_IS_BETTER = ("accuracy", "token_agreement", "boundary_agreement")
LOWER_IS_BETTER = (
    "cer", "wer", "boundary_shift", "divergence", "zero_duration_words", "words_off", "size_bytes", "latency_ms", "rtf",
    "peak_memory_bytes", "peak_gpu_memory_bytes", "expert_runs",
)  # fmt: skip
_BY_CHARACTERS = frozenset({"zh", "yue", "ja", "ko", "th"})
"""Languages whose error rate is usually told by characters."""


@dataclass(frozen=True)
class Score:
    """The figure that speaks for a model's quality."""

    metric: str
    evaluation: Evaluation

    @property
    def measure(self) -> Measure:
        """The number, and the base model's."""
        return self.evaluation.metrics[self.metric]


def is_quality(metric: str) -> bool:
    """Whether a metric tells how well a model works, rather than what it costs."""
    return metric not in COSTS


def arrow(metric: str) -> str:
    """Whether more or less of a metric is better, where that is known."""
    if metric.startswith(HIGHER_IS_BETTER):
        return "↑"
    return "↓" if metric.startswith(LOWER_IS_BETTER) else ""


def main_score(report: Report) -> Score | None:
    """The error metric of the first evaluation that has one."""
    rates = ("cer", "wer") if _BY_CHARACTERS & set(report.card.languages[:1]) else ("wer", "cer")
    order = (*rates, "boundary_shift_ms", "accuracy", "divergence")
    for evaluation in report.evaluations:
        for metric in order:
            if metric in evaluation.metrics and evaluation.metrics[metric].value is not None:
                return Score(metric, evaluation)
    return None


def same_score(report: Report, score: Score) -> Score | None:
    """The same metric of another model on the same samples; on others it could not be compared."""
    for evaluation in report.evaluations:
        measure = evaluation.metrics.get(score.metric)
        if _same_samples(evaluation, score.evaluation) and measure is not None and measure.value is not None:
            return Score(score.metric, evaluation)
    return None


def same_machine(one: Evaluation, other: Evaluation) -> bool:
    """Whether times of two evaluations can be compared."""
    a, b = one.machine, other.machine
    return (a.processor, a.cores, a.threads) == (b.processor, b.cores, b.threads)


def speed(evaluation: Evaluation) -> str | None:
    """The metric that tells an evaluation's speed: the real-time factor where there was audio, else the latency."""
    for metric in ("rtf", "latency_ms"):
        if metric in evaluation.metrics and evaluation.metrics[metric].value is not None:
            return metric
    return None


def _same_samples(one: Evaluation, other: Evaluation) -> bool:
    return one.samples.sha256 is not None and one.samples.sha256 == other.samples.sha256
