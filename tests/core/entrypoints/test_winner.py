"""The model that a comparison chooses, and the sentences that say why."""

from __future__ import annotations

from sottovoce import Metric, Text
from sottovoce.entrypoints.comparison.winner import choose
from sottovoce.report import ComparedModel, PairedTest


def metric(value: float | None, better: str = "lower") -> Metric:
    label = Text(en="error rate")
    return Metric(name="rate", value=value, unit="%", kind="quality", better=better, label=label)  # type: ignore[arg-type]


def model(name: str, size: int, value: float | None, p: float | None = None, difference: float = 1.0) -> ComparedModel:
    test = None if p is None else PairedTest(difference=difference, low=-0.5, high=2, p=p, samples=160, changed=9)
    return ComparedModel(
        name=name, size_bytes=size, metrics={"rate": metric(value)}, tests={"rate": test} if test is not None else {}
    )


BASE = model("base", 100, 3.0)


def test_smallest_without_a_significant_loss_is_chosen() -> None:
    models = [BASE, model("half", 50, 3.2, 0.4), model("quarter", 25, 3.5, 0.06), model("tiny", 10, 9.0, 0.001)]
    choice = choose(models, BASE, metric(3.0), None)
    assert choice.winner == "quarter"
    assert "cannot rule out a loss of up to 2.00 points" in choice.verdict
    assert "p = 0.06" in choice.verdict


def test_significant_gain_is_no_reason_against_a_model() -> None:
    choice = choose([BASE, model("half", 50, 2.0, 0.001, -1.0)], BASE, metric(3.0), None)
    assert choice.winner == "half"
    assert "p = 0.001" in choice.verdict


def test_higher_is_better_turns_the_sign() -> None:
    models = [BASE, model("half", 50, 2.0, 0.001, -1.0)]
    assert choose(models, BASE, metric(3.0, "higher"), None).winner == "base"


def test_reference_stays_where_all_smaller_ones_lose() -> None:
    choice = choose([BASE, model("half", 50, 9.0, 0.01)], BASE, metric(3.0), None)
    assert (choice.winner, choice.verdict) == ("base", "Every smaller model is significantly worse than base.")


def test_limit_leaves_the_one_that_loses_least() -> None:
    models = [BASE, model("half", 50, 5.0, 0.01, 2.0), model("quarter", 25, 9.0, 0.01, 6.0)]
    choice = choose(models, BASE, metric(3.0), 60)
    assert choice.winner == "half"
    assert "Every model of at most 60 B is significantly worse than base" in choice.verdict


def test_metric_without_a_test_decides_by_its_value() -> None:
    base = model("base", 100, None)
    choice = choose([base, model("half", 50, 3.0), model("quarter", 25, 3.0)], base, metric(3.0), None)
    assert choice.winner == "quarter"
    assert "There is no test of this metric" in choice.rule


def test_nothing_is_chosen_without_a_metric_or_a_model_that_fits() -> None:
    assert choose([BASE, model("half", 50, 3.0, 1.0)], BASE, None, None).winner is None
    assert choose([BASE, model("half", 50, 3.0, 1.0)], BASE, metric(3.0), 10).winner is None
