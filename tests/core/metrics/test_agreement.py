"""Token agreement."""

from __future__ import annotations

import pytest

from sottovoce import Prediction, Run
from sottovoce.metrics.agreement import sottovoce_evaluate, token_agreement


def run(*texts: str) -> Run:
    predictions = [Prediction(text=text, tokens=tuple(text)) for text in texts]
    return Run(predictions=predictions, seconds=[1.0] * len(texts), audio_seconds=[1.0] * len(texts))


def test_agreement_is_one_minus_the_distance() -> None:
    metric = token_agreement(run("abcd", "xy"), run("abed", "xyz"))
    assert metric.value == pytest.approx(100 * (1 - 2 / 7))
    assert metric.details == {"identical": 0, "utterances": 2}


def test_the_same_agrees_fully() -> None:
    metric = token_agreement(run("ab", ""), run("ab", ""))
    assert (metric.value, metric.details["identical"]) == (100.0, 2)


def test_there_is_none_without_a_baseline() -> None:
    assert list(sottovoce_evaluate(run("a"), None)) == []
