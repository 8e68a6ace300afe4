"""Divergence from the baseline, against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div, log_softmax

from sottovoce import Prediction, Run
from sottovoce.metrics.divergence import NUMBERS, POSITIONS, compact, divergence, sottovoce_evaluate


def run(*logits: torch.Tensor | None) -> Run:
    predictions = [Prediction(logits=None if each is None else compact(each)) for each in logits]
    return Run(predictions=predictions, seconds=[1.0] * len(logits), audio_seconds=[0.0] * len(logits))


def test_it_is_the_mean_over_positions() -> None:
    torch.manual_seed(0)
    before = [8 * torch.randn(5, 300), 8 * torch.randn(11, 300) + 40]
    after = [each + 0.3 * torch.randn_like(each) for each in before]
    (metric,) = sottovoce_evaluate(run(*after), run(*before))
    pairs = [(log_softmax(mine, -1), log_softmax(theirs, -1)) for mine, theirs in zip(after, before, strict=True)]
    expected = sum(kl_div(mine, theirs, log_target=True, reduction="sum") for mine, theirs in pairs) / 16
    assert (metric.name, metric.unit, metric.details["positions"]) == ("divergence", "nats", 16)
    assert metric.value == pytest.approx(float(expected), rel=0.01)
    assert metric.details["largest"] > metric.value


def test_the_same_does_not_diverge() -> None:
    logits = 8 * torch.randn(5, 300)
    (metric,) = sottovoce_evaluate(run(logits, None), run(logits + 100, None))
    assert metric.value == pytest.approx(0, abs=1e-6)


def test_samples_count_that_have_logits_in_both_runs() -> None:
    logits = torch.randn(5, 300)
    (metric,) = sottovoce_evaluate(run(logits, None, logits), run(logits, logits, None))
    assert metric.details["positions"] == 5
    assert list(sottovoce_evaluate(run(None), run(logits))) == []


def test_there_is_none_without_a_baseline() -> None:
    alone = run(torch.randn(5, 300))
    assert list(sottovoce_evaluate(alone, None)) == []
    assert list(sottovoce_evaluate(alone, alone)) == []


def test_what_is_kept_is_bounded() -> None:
    assert compact(torch.zeros(200, 100)).shape == (POSITIONS, 100)
    large = compact(torch.zeros(200, 152_064))
    assert large.size <= NUMBERS
    assert large.shape[0] == 13
    assert compact(torch.zeros(3, 2 * NUMBERS)).shape[0] == 1


def test_logits_that_are_no_numbers_give_no_value() -> None:
    good = np.zeros((2, 10), np.float16)
    bad = good.copy()
    bad[1, 3] = np.nan
    metric = divergence([(bad, good)])
    assert (metric.value, metric.details["not_finite"]) == (None, 1)
