"""Intervals and matched-pair tests, against numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sottovoce import Metric
from sottovoce.metrics.error_rate import error_rates
from sottovoce.metrics.statistics import PairedDifference, interval, paired_difference
from sottovoce.report.metric import BySample


def metric(*shares: tuple[float, float] | None) -> Metric:
    return Metric(name="errors", value=0.0, unit="%", by_sample=shares)


def paired(model: BySample, other: BySample) -> PairedDifference:
    compared = paired_difference(metric(*model), metric(*other))
    assert compared is not None
    return compared


def test_interval_of_independent_samples_is_that_of_their_standard_error() -> None:
    bounds = interval(metric(*[(100.0 * (number % 2), 1.0) for number in range(400)]))
    assert bounds is not None
    assert bounds == pytest.approx((50 - 1.96 * 100 * 0.5 / 20, 50 + 1.96 * 100 * 0.5 / 20), abs=0.6)


def test_interval_of_a_ratio_weighs_samples_by_their_length() -> None:
    # One long sample without errors and short ones full of them: no draw lies outside of 0 to 100.
    bounds = interval(metric((0.0, 90.0), *[(100.0, 1.0)] * 10))
    assert bounds is not None
    low, high = bounds
    assert 0 <= low < 10 < high <= 100


@pytest.mark.parametrize("shares", [(), ((1.0, 2.0),), (None, (1.0, 2.0)), ((0.0, 0.0), (0.0, 0.0))])
def test_interval_of_too_little_is_none(shares: BySample) -> None:
    assert interval(metric(*shares)) is None


@pytest.mark.parametrize("changed", [1, 2, 5, 12])
def test_p_of_samples_that_all_became_worse_is_exact(changed: int) -> None:
    compared = paired([(100.0, 4.0)] * changed + [(0.0, 4.0)] * 8, [(0.0, 4.0)] * (changed + 8))
    assert compared.p == 2 / 2**changed
    assert (compared.changed, compared.samples) == (changed, changed + 8)
    assert compared.difference == pytest.approx(100 * changed / (4 * (changed + 8)))


def test_p_of_many_samples_that_became_worse_is_small_and_not_zero() -> None:
    compared = paired([(100.0, 4.0)] * 40, [(0.0, 4.0)] * 40)
    assert 0 < compared.p < 0.001


def test_models_that_are_alike_do_not_differ() -> None:
    compared = paired([(100.0, 3.0), (0.0, 4.0)], [(100.0, 3.0), (0.0, 4.0)])
    assert compared == PairedDifference(difference=0.0, low=0.0, high=0.0, p=1.0, samples=2, changed=0)


def test_exchanged_models_have_the_opposite_difference_and_the_same_p() -> None:
    random = np.random.default_rng(1)
    one, other = (tuple((float(errors), 5.0) for errors in random.integers(0, 4, 30)) for _ in range(2))
    there, back = paired(one, other), paired(other, one)
    assert there.difference == -back.difference
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p == pytest.approx(back.p, abs=0.02)


def test_chance_is_rarely_significant() -> None:
    random = np.random.default_rng(2)
    runs = [[tuple((float(errors), 5.0) for errors in random.integers(0, 3, 40)) for _ in range(2)] for _ in range(60)]
    assert sum(paired(one, other).p < 0.05 for one, other in runs) <= 8


def test_samples_that_count_for_one_model_only_are_left_out() -> None:
    compared = paired(((100.0, 1.0), (0.0, 1.0), (0.0, 1.0), None), (None, (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)))
    assert (compared.samples, compared.difference) == (2, 0.0)


def test_metrics_of_other_samples_are_not_compared() -> None:
    assert paired_difference(metric((1.0, 1.0)), metric()) is None


def test_shares_of_an_error_rate_add_up_to_its_value() -> None:
    references = ["今天天气很好", "打开灯", "", "一二三"]
    cer, wer = error_rates(references, ["今天天汽很", "打开台灯", "啊", None], ["zh", "zh", "en", "zh"])
    for rate in (cer, wer):
        shares = [share for share in rate.by_sample if share is not None]
        assert len(shares) == 4
        assert rate.value is not None
        assert math.isclose(sum(share[0] for share in shares) / sum(share[1] for share in shares), rate.value)


def test_shares_are_not_written() -> None:
    assert "by_sample" not in metric((1.0, 2.0)).to_dict()
