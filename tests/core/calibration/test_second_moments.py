"""Second moments against plain sums, and their independence of the order and of who adds them."""

from __future__ import annotations

import pytest
import torch

from core.drawn import normal
from sottovoce.calibration.second_moments import add_second_moments_, mean_of


def sums_of(parts: list[torch.Tensor]) -> torch.Tensor:
    width = parts[0].shape[1]
    sums = torch.zeros(width, width, dtype=torch.float64)
    for part in parts:
        add_second_moments_(sums, part)
    return sums


@pytest.mark.parametrize("width", [1, 7, 512, 700])
def test_mean_equals_plain_products_on_both_sides_of_the_diagonal(width: int) -> None:
    x = normal(130, width).float()
    expected = x.double().t() @ x.double() / 130
    torch.testing.assert_close(mean_of(sums_of([x[:30], x[30:]]), 130), expected, rtol=1e-5, atol=1e-5)


def test_sums_of_shares_give_the_very_float32_moments_of_all() -> None:
    parts = [normal(20 + 9 * number, 600, seed=number).float() for number in range(9)]
    rows = sum(map(len, parts))
    shares = sums_of(parts[1::2]) + sums_of(parts[::2])
    assert mean_of(shares, rows).float().equal(mean_of(sums_of(parts), rows).float())
    assert mean_of(sums_of(parts[::-1]), rows).float().equal(mean_of(sums_of(parts), rows).float())
