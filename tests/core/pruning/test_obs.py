"""The order in which columns are removed, against the published formula on small layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import correlated, moments, normal
from sottovoce.pruning import obs


def plain_obs(weight: Tensor, hessian: Tensor, keep: int) -> list[int]:
    """Remove the column of the least ``|w_j|^2 / inv(H)_jj``, with the inverse computed anew every time."""
    weight, alive = weight.double().clone(), list(range(weight.shape[1]))
    while len(alive) > keep:
        inverse = torch.linalg.inv(hessian[alive][:, alive].double())
        scores = weight[:, alive].square().sum(0) / inverse.diagonal()
        place = int(scores.argmin())
        weight[:, alive] -= torch.outer(weight[:, alive[place]], inverse[place] / inverse[place, place])
        del alive[place]
    return alive


def least_squares_error(weight: Tensor, hessian: Tensor, kept: list[int]) -> float:
    """Squared output error of the best weight on the kept columns."""
    weight, hessian = weight.double(), hessian.double()
    fitted = torch.linalg.solve(hessian[kept][:, kept], (weight @ hessian)[:, kept], left=False)
    difference = weight.clone()
    difference[:, kept] -= fitted
    return float((difference @ hessian * difference).sum())


@given(seed=st.integers(0, 1000), keep=st.integers(1, 15))
def test_columns_to_keep_are_those_of_the_plain_formula(seed: int, keep: int) -> None:
    weight, hessian = normal(6, 16, seed=seed), obs.damped(moments(correlated(64, 16, seed=seed)), 0.01)
    assert obs.columns_to_keep(weight, hessian, keep).tolist() == plain_obs(weight, hessian, keep)


def test_columns_removed_in_batches_leave_nearly_the_error_of_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, hessian = normal(24, 128, seed=1), obs.damped(moments(correlated(600, 128)), 0.01)
    one_by_one = obs.columns_to_keep(weight, hessian, 64).tolist()
    monkeypatch.setattr(obs, "_ONE_BY_ONE", 0)
    monkeypatch.setattr(obs, "_RANKINGS", 16)
    batched = obs.columns_to_keep(weight, hessian, 64).tolist()
    assert len(batched) == 64
    assert batched == sorted(batched)
    best = least_squares_error(weight, hessian, one_by_one)
    assert least_squares_error(weight, hessian, batched) < 1.25 * best
    magnitude = weight.norm(dim=0).topk(64).indices.sort().values.tolist()
    assert best < 0.5 * least_squares_error(weight, hessian, magnitude)


def test_group_to_remove_is_the_one_whose_absence_costs_the_best_refit_least() -> None:
    weight, hessian = normal(10, 32, seed=2), obs.damped(moments(correlated(200, 32)), 0.01)
    groups = 8
    costs = []
    for group in range(groups):
        kept = [column for column in range(32) if column // 4 != group]
        costs.append(least_squares_error(weight, hessian, kept))
    removed = min(range(groups), key=costs.__getitem__)
    assert obs.groups_to_keep(weight, hessian, groups, 7) == [group for group in range(groups) if group != removed]


def test_groups_of_one_column_are_columns() -> None:
    weight, hessian = normal(6, 12, seed=3), obs.damped(moments(correlated(64, 12)), 0.01)
    assert obs.groups_to_keep(weight, hessian, 12, 5) == obs.columns_to_keep(weight, hessian, 5).tolist()


def test_damped_moments_of_zeros_can_be_inverted() -> None:
    assert torch.equal(obs.damped(torch.zeros(3, 3), 0.01), torch.eye(3, dtype=torch.float64))


def test_columns_of_groups_are_adjacent() -> None:
    assert obs.columns_of([0, 2], 3).tolist() == [0, 1, 2, 6, 7, 8]
