"""Least squares on what a layer still has, against plain regressions over the rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.drawn import correlated, normal
from sottovoce.errors import NotFiniteError
from sottovoce.pruning.moments import Moments
from sottovoce.pruning.refit import Drift, Regression, RegressionSums

KEPT = torch.tensor([0, 3, 4, 7, 9, 10, 12, 15])


def counted(x: Tensor) -> Moments:
    moments = Moments()
    for rows in x.split(17):
        moments.add("layer", rows)
    return moments


def test_moments_are_the_means_over_all_rows() -> None:
    x = correlated(100, 16)
    moments = counted(x)
    assert moments.rows == 100
    torch.testing.assert_close(moments.mean, x.double().mean(0), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(moments.second, (x.double().t() @ x.double()) / 100, rtol=1e-5, atol=1e-6)


def test_moments_of_infinite_inputs_are_refused_by_name() -> None:
    with pytest.raises(NotFiniteError, match="'encoder.w_2'"):
        Moments().add("encoder.w_2", torch.tensor([[1.0, float("inf")]]))


def test_error_is_that_of_the_rows() -> None:
    x, weight = correlated(200, 16), normal(5, 16, seed=4)
    regression = Regression.of_columns(counted(x), weight, KEPT)
    smaller, shift = weight[:, KEPT] + 0.1 * normal(5, 8, seed=5), normal(5, seed=6).double()
    outputs = (x @ weight.t()).double()
    for added in (None, shift):
        difference = (x[:, KEPT] @ smaller.t()).double() - outputs + (0 if added is None else added)
        expected = float(difference.square().sum() / outputs.square().sum())
        assert regression.error(smaller, added) == pytest.approx(expected, rel=1e-4)


def test_fit_with_a_bias_is_the_regression_with_an_intercept() -> None:
    x, weight = correlated(400, 16), normal(5, 16, seed=4)
    regression = Regression.of_columns(counted(x), weight, KEPT)
    fitted, shift = regression.fit(weight[:, KEPT], 1e-9, has_bias=True)
    design = torch.cat((x[:, KEPT], torch.ones(len(x), 1)), 1).double()
    expected = torch.linalg.lstsq(design, (x @ weight.t()).double()).solution.t()
    torch.testing.assert_close(fitted, expected[:, :-1], rtol=1e-3, atol=1e-3)
    assert shift is not None
    torch.testing.assert_close(shift, expected[:, -1], rtol=1e-3, atol=1e-3)


def test_fit_without_a_bias_is_ridge_regression_towards_the_given_weight() -> None:
    x, weight, damp = correlated(400, 16), normal(5, 16, seed=4), 0.05
    regression = Regression.of_columns(counted(x), weight, KEPT)
    fitted, shift = regression.fit(weight[:, KEPT], damp, has_bias=False)
    assert shift is None
    inputs, outputs, start = x[:, KEPT].double(), (x @ weight.t()).double(), weight[:, KEPT].double()
    penalty = damp * inputs.square().mean(0).mean() * len(x)
    normal_matrix = inputs.t() @ inputs + penalty * torch.eye(8, dtype=torch.float64)
    expected = torch.linalg.solve(normal_matrix, inputs.t() @ outputs + penalty * start.t()).t()
    torch.testing.assert_close(fitted, expected, rtol=1e-4, atol=1e-5)


def test_merged_regression_is_that_of_all_rows() -> None:
    x, weight = correlated(100, 16), normal(5, 16, seed=4)
    parts = [Regression.of_columns(counted(rows), weight, KEPT) for rows in (x[:30], x[30:])]
    together, whole = parts[0].merged(parts[1]), Regression.of_columns(counted(x), weight, KEPT)
    assert together.rows == 100
    assert together.power == pytest.approx(whole.power, rel=1e-5)
    for name in ("moments", "cross", "mean", "target"):
        torch.testing.assert_close(getattr(together, name), getattr(whole, name), rtol=1e-5, atol=1e-6)


def test_sums_of_unchanged_inputs_are_the_regression_of_columns() -> None:
    x, weight = correlated(100, 16), normal(5, 16, seed=4)
    sums = RegressionSums()
    for rows in x.split(33):
        sums.add(rows[:, KEPT], rows @ weight.t())
    counted_sums, columns = sums.regression(), Regression.of_columns(counted(x), weight, KEPT)
    for name in ("moments", "cross", "mean", "target"):
        torch.testing.assert_close(getattr(counted_sums, name), getattr(columns, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("has_bias", [False, True])
def test_fit_with_drift_adds_a_regression_of_its_own(has_bias: bool) -> None:
    x, weight, damp = correlated(300, 16), normal(5, 16, seed=4), 0.02
    drift = x @ (0.1 * normal(5, 16, seed=7)).t() + 0.3
    sums = Drift(damp=0.2)
    for rows, lacking in zip(x.split(50), drift.split(50), strict=True):
        sums.add(lacking, rows)
    regression = Regression.of_columns(counted(x), weight, KEPT)
    fitted, shift = regression.fit(weight[:, KEPT], damp, has_bias)
    more, more_shift = regression.with_drift(sums, KEPT).fit_with_drift(weight[:, KEPT], damp, has_bias)
    inputs, lacking = x[:, KEPT].double(), drift.double()
    if has_bias:
        inputs, lacking = inputs - inputs.mean(0), lacking - lacking.mean(0)
    penalty = 0.2 * inputs.square().mean(0).mean() * len(x)
    added = torch.linalg.solve(inputs.t() @ inputs + penalty * torch.eye(8, dtype=torch.float64), inputs.t() @ lacking)
    torch.testing.assert_close(more - fitted, added.t(), rtol=1e-3, atol=1e-5)
    if shift is None or more_shift is None:
        assert shift is more_shift is None
    else:
        expected = drift.double().mean(0) - added.t() @ x[:, KEPT].double().mean(0)
        torch.testing.assert_close(more_shift - shift, expected, rtol=1e-3, atol=1e-4)
    plain = regression.fit_with_drift(weight[:, KEPT], damp, has_bias)[0]
    assert torch.equal(plain, fitted)


def test_drift_of_merged_regressions_is_that_of_all_rows() -> None:
    x, weight = correlated(100, 16), normal(5, 16, seed=4)
    drift, parts, whole = 0.1 * normal(100, 5, seed=8), [], Drift()
    whole.add(drift, x)
    for begin, end in ((0, 30), (30, 100)):
        part = Drift()
        part.add(drift[begin:end], x[begin:end])
        parts.append(Regression.of_columns(counted(x[begin:end]), weight, KEPT).with_drift(part, KEPT))
    together, expected = parts[0].merged(parts[1]), Regression.of_columns(counted(x), weight, KEPT)
    expected = expected.with_drift(whole, KEPT)
    for name in ("drift", "drift_mean"):
        torch.testing.assert_close(getattr(together, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
