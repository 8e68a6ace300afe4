"""Share of conversations that were answered as the reference says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sottovoce.metrics.kinds import MetricKind
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric
from sottovoce.text.translations import MODALITIES, Text

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.samples import Prediction, Run, Sample, Samples

TASK = "conversation"
ACCURACY = MetricKind(
    name="accuracy",
    unit="%",
    better="higher",
    label=Text(en="correct answers", zh="回答正确率"),
    description=Text(
        en="Share of answers that equal the reference, ignoring space around them; also by modality.",
        zh="与参考答案一致的回答所占比例（忽略首尾空白）；也按模态分别统计。",
    ),
    headline=40,
    suffixes=MODALITIES,
)


@hookimpl
def sottovoce_evaluate(architecture: Architecture, samples: Samples, run: Run) -> Iterable[Metric]:
    """Compare the answers with ``target`` of the samples that have one, when the family's task is conversation."""
    if architecture.task != TASK:
        return []
    answered = [pair for pair in zip(samples, run.predictions, strict=True) if pair[0].text is not None]
    return [_of_all(metric, samples) for metric in accuracies(answered)]


def _of_all(metric: Metric, samples: Samples) -> Metric:
    """Return a metric with ``None`` in place of the samples without a reference."""
    shares = iter(metric.by_sample)
    return replace(metric, by_sample=tuple(None if sample.text is None else next(shares) for sample in samples))


def accuracies(answered: Sequence[tuple[Sample, Prediction]]) -> list[Metric]:
    """Return ``accuracy``, the share in percent of answers that equal the reference, ignoring space around them.

    Where the samples are of several modalities, ``accuracy_audio`` and so on are the same for each; they are counted in
    the details.

    Args:
        answered: Samples that have a ``text``, with what was said of them; none give no metric.
    """
    if not answered:
        return []
    kinds = sorted({sample.modality for sample, _ in answered})
    by_modality = [_accuracy(answered, kind) for kind in kinds] if len(kinds) > 1 else []
    return [_accuracy(answered), *by_modality]


def _accuracy(answered: Sequence[tuple[Sample, Prediction]], modality: str | None = None) -> Metric:
    counted = [pair for pair in answered if modality in (None, pair[0].modality)]
    correct = sum(_same(sample.text, prediction.text) for sample, prediction in counted)
    silent = sum(not (prediction.text or "").strip() for _, prediction in counted)
    shares = [
        (100.0 * _same(sample.text, prediction.text), 1.0) if modality in (None, sample.modality) else None
        for sample, prediction in answered
    ]
    return ACCURACY.measured(
        100 * correct / len(counted),
        details={"correct": correct, "samples": len(counted), "without_answer": silent},
        suffix=modality,
        by_sample=shares,
    )


def _same(reference: str | None, answer: str | None) -> bool:
    return answer is not None and reference is not None and answer.strip() == reference.strip()
