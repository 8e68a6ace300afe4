"""How many conversations were answered as the reference says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.report import Metric

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.samples import Prediction, Run, Sample, Samples

TASK = "conversation"


@hookimpl
def sottovoce_evaluate(architecture: Architecture, samples: Samples, run: Run) -> Iterable[Metric]:
    """Compare the answers with ``target`` of the samples that have one, when the family's task is conversation."""
    if architecture.task != TASK:
        return []
    answered = [pair for pair in zip(samples, run.predictions, strict=True) if pair[0].text is not None]
    return accuracies(answered)


def accuracies(answered: Sequence[tuple[Sample, Prediction]]) -> list[Metric]:
    """``accuracy``, the share of answers that are the reference but for space around them, in percent.

    Where the samples are of several modalities, ``accuracy_audio`` and so on are the same for each; they are counted in
    the details.

    Args:
        answered: Samples that have a ``text``, with what was said of them; none give no metric.
    """
    if not answered:
        return []
    kinds = sorted({sample.modality for sample, _ in answered})
    parts = {f"accuracy_{kind}": [pair for pair in answered if pair[0].modality == kind] for kind in kinds}
    return [
        _accuracy(name, pairs) for name, pairs in {"accuracy": answered, **(parts if len(kinds) > 1 else {})}.items()
    ]


def _accuracy(name: str, answered: Sequence[tuple[Sample, Prediction]]) -> Metric:
    correct = sum(_same(sample.text, prediction.text) for sample, prediction in answered)
    silent = sum(not (prediction.text or "").strip() for _, prediction in answered)
    details = {"correct": correct, "samples": len(answered), "without_answer": silent}
    return Metric(name=name, value=100 * correct / len(answered), unit="%", details=details)


def _same(reference: str | None, answer: str | None) -> bool:
    return answer is not None and reference is not None and answer.strip() == reference.strip()
