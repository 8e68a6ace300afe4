"""Share of conversations that were answered as the reference says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    return accuracies(answered)


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
    parts = {kind: [pair for pair in answered if pair[0].modality == kind] for kind in kinds}
    by_modality = [_accuracy(pairs, kind) for kind, pairs in parts.items()] if len(kinds) > 1 else []
    return [_accuracy(answered), *by_modality]


def _accuracy(answered: Sequence[tuple[Sample, Prediction]], modality: str | None = None) -> Metric:
    correct = sum(_same(sample.text, prediction.text) for sample, prediction in answered)
    silent = sum(not (prediction.text or "").strip() for _, prediction in answered)
    details = {"correct": correct, "samples": len(answered), "without_answer": silent}
    return ACCURACY.measured(100 * correct / len(answered), details=details, suffix=modality)


def _same(reference: str | None, answer: str | None) -> bool:
    return answer is not None and reference is not None and answer.strip() == reference.strip()
