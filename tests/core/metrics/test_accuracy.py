"""Accuracy of answers, all together and by modality."""

from __future__ import annotations

from pathlib import Path

from core.toy import architecture
from sottovoce import Prediction, Run, Sample
from sottovoce.metrics.accuracy import accuracies, sottovoce_evaluate
from sottovoce.samples import Samples


def sample(number: int, target: str | None, kind: str = "text") -> Sample:
    item = {"type": kind, kind: Path("x") if kind != "text" else "?"}
    return Sample(key=str(number), text=target, messages=[{"role": "user", "content": [item]}])


def run(*answers: str | None) -> Run:
    predictions = [Prediction(text=answer) for answer in answers]
    return Run(predictions=predictions, seconds=[1.0] * len(answers), audio_seconds=[0.0] * len(answers))


def evaluated(items: list[Sample], *answers: str | None) -> dict[str, float | None]:
    metrics = sottovoce_evaluate(architecture(task="conversation"), Samples(tuple(items)), run(*answers))
    return {metric.name: metric.value for metric in metrics}


def test_answers_are_compared_without_space_around_them() -> None:
    found = evaluated(
        [sample(0, "red"), sample(1, " a b"), sample(2, "red"), sample(3, "x")], "red\n", "a b", "Red", None
    )
    assert found == {"accuracy": 50.0}


def test_every_modality_is_counted_where_there_are_several() -> None:
    items = [sample(0, "a", "audio"), sample(1, "b", "audio"), sample(2, "c", "image"), sample(3, "d")]
    found = evaluated(items, "a", "", "c", "d")
    assert found == {"accuracy": 75.0, "accuracy_audio": 50.0, "accuracy_image": 100.0, "accuracy_text": 100.0}
    answered = list(zip(items, run("a", "", "c", "d").predictions, strict=True))
    assert accuracies(answered)[1].details == {"correct": 1, "samples": 2, "without_answer": 1}
    assert evaluated(items[:2], "a", "b") == {"accuracy": 100.0}


def test_samples_without_a_reference_do_not_count() -> None:
    assert evaluated([sample(0, "a"), sample(1, None)], "a", "b") == {"accuracy": 100.0}
    assert evaluated([sample(0, None)], "a") == {}


def test_other_tasks_have_none() -> None:
    assert sottovoce_evaluate(architecture(), Samples((sample(0, "a"),)), run("a")) == []
