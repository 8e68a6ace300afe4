"""Wanda and SparseGPT against the published formulas, written plainly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.drawn import correlated, moments, normal
from sottovoce.pruning.sparsegpt import inverse_factor, sparsegpt
from sottovoce.pruning.wanda import wanda

OUT, IN = 6, 24
X = correlated(200, IN)
WEIGHT = normal(OUT, IN, seed=3)
DAMP = 0.01


def damped() -> Tensor:
    second = moments(X).double()
    return second + DAMP * second.diagonal().mean() * torch.eye(IN, dtype=torch.float64)


def column_by_column(weight: Tensor, mask: Tensor) -> Tensor:
    """Apply equation 3 of the paper to each row: remove a weight, update those that follow, shrink the inverse."""
    weight = weight.double().clone()
    for column in range(IN):
        inverse = torch.linalg.inv(damped()[column:, column:])
        for row in range(len(weight)):
            if mask[row, column]:
                weight[row, column:] -= weight[row, column] / inverse[0, 0] * inverse[0]
                weight[row, column] = 0
    return weight


def test_zeros_are_compensated_as_column_by_column() -> None:
    got = sparsegpt(WEIGHT, inverse_factor(moments(X), DAMP), 0.5, block_size=8)
    want = column_by_column(WEIGHT, got == 0)
    assert int((got == 0).sum()) == OUT * IN // 2
    assert torch.allclose(got.double(), want, atol=1e-4)


def test_zeros_of_the_first_block_have_the_least_error_by_the_formula() -> None:
    got = sparsegpt(WEIGHT, inverse_factor(moments(X), DAMP), 0.5, block_size=8)
    cost = torch.stack(
        [WEIGHT[:, column].double() ** 2 / torch.linalg.inv(damped()[column:, column:])[0, 0] for column in range(8)], 1
    )
    assert (got[:, :8] == 0).equal(cost < cost.flatten().sort().values[OUT * 8 // 2])


def test_pattern_is_chosen_by_the_weights_when_a_group_is_reached() -> None:
    got = sparsegpt(WEIGHT, inverse_factor(moments(X), DAMP), None, block_size=8)
    want = column_by_column(WEIGHT, got == 0)
    assert ((got.reshape(-1, 4) == 0).sum(1) == 2).all()
    assert torch.allclose(got.double(), want, atol=1e-4)


@pytest.mark.parametrize("block_size", [4, 8, 128])
def test_earlier_zeros_stay_and_count(block_size: int) -> None:
    before = WEIGHT.clone()
    before[:, :9] = 0
    got = sparsegpt(before, inverse_factor(moments(X), DAMP), 0.5, block_size)
    assert not got[:, :9].any()
    assert int((got == 0).sum()) == OUT * IN // 2


def test_more_zeros_than_asked_for_stay() -> None:
    before = WEIGHT.clone()
    before[:, ::2] = 0
    factor = inverse_factor(moments(X), DAMP)
    assert sparsegpt(before, factor, 0.25).count_nonzero() == OUT * IN // 2
    assert wanda(before, moments(X), 0.25).equal(before)


def test_input_that_was_always_zero_loses_its_weights_first() -> None:
    x = X.clone()
    x[:, 5] = 0
    factor = inverse_factor(moments(x), DAMP)
    assert factor.isfinite().all()
    assert not wanda(WEIGHT, moments(x), 0.25)[:, 5].any()


def test_moments_without_an_inverse_are_refused() -> None:
    with pytest.raises(ArithmeticError, match="inverted"):
        inverse_factor(-torch.eye(4), DAMP)


def test_wanda_removes_the_least_products_of_every_row() -> None:
    got = wanda(WEIGHT, moments(X), 0.5)
    norms = X.norm(dim=0)
    for row in range(OUT):
        order = sorted(range(IN), key=lambda column: float(WEIGHT[row, column].abs() * norms[column]))
        want = WEIGHT[row].clone()
        want[order[: IN // 2]] = 0
        assert got[row].equal(want)
