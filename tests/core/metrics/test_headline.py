"""The metric that decides, chosen by what metrics declare."""

from __future__ import annotations

from typing import Any

from sottovoce import Metric
from sottovoce.metrics.headline import deciding, headline


def metric(name: str, value: float | None = 1.0, **facts: Any) -> Metric:
    return Metric(name=name, value=value, unit="", **{"kind": "quality", "better": "lower", **facts})


CER = metric("cer", headline=20, headline_languages=("zh",))
WER = metric("wer", headline=10)
PLAIN = metric("plain")
AGAINST = metric("against", kind="against_baseline", headline=1)


def test_first_rank_speaks_but_for_a_language_of_another() -> None:
    assert headline([CER, WER]) is WER
    assert headline([CER, WER], "zh") is CER


def test_quality_decides_before_what_is_against_the_baseline() -> None:
    assert deciding([AGAINST, CER]) is CER
    assert deciding([AGAINST]) is AGAINST


def test_metric_without_a_rank_decides_where_no_other_does() -> None:
    assert deciding([AGAINST, PLAIN]) is PLAIN
    assert deciding([PLAIN, WER]) is WER


def test_metrics_without_direction_or_value_and_costs_do_not_decide() -> None:
    assert deciding([metric("a", better=None), metric("b", None), metric("size", kind="cost")]) is None
