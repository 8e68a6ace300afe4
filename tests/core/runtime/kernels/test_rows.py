"""Rows are rounded to 8 bits as by PyTorch's operators."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.runtime.kernels.halves import LARGE, drawn
from sottovoce.runtime.kernels import rows

SIZES = st.integers(1, 70)


def by_operators(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows rounded by their own range."""
    scale = (x.abs().amax(-1, keepdim=True).float() / 127).bfloat16().clamp_(min=1e-30)
    values = (x.float() * scale.float().reciprocal()).round().add(128).to(torch.uint8)
    return values, scale


@given(rows_=SIZES, width=SIZES, seed=st.integers(0, 99), power=st.integers(-30, 30))
def test_rows_are_rounded_by_their_range(rows_: int, width: int, seed: int, power: int) -> None:
    x = drawn(rows_, width, seed=seed, spread=2.0**power)
    found = rows.quantize(x)
    assert found is not None
    assert all(map(torch.equal, found, by_operators(x)))


def test_many_rows_that_do_not_lie_together_are_rounded() -> None:
    x = drawn(*LARGE).t()
    found = rows.quantize(x)
    assert found is not None
    assert all(map(torch.equal, found, by_operators(x)))


def test_rows_of_nothing_but_zeros_and_of_the_smallest_numbers() -> None:
    x = torch.tensor([[0.0, -0.0], [1e-38, -1e-39], [2e-40, 0.0]]).bfloat16()
    found = rows.quantize(x)
    assert found is not None
    assert found[0].unique().tolist() == [128]
    assert bool((found[1] > 0).all())


@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("row", [0, 299])
def test_a_number_that_is_not_finite_is_found(wrong: float, row: int) -> None:
    x = drawn(*LARGE)
    x[row, 200] = wrong
    assert rows.quantize(x) is None


@given(
    rows_=SIZES,
    width=SIZES,
    seed=st.integers(0, 99),
    scale=st.floats(1e-3, 10),
    zero_point=st.integers(0, 255),
)
def test_rows_are_rounded_by_a_known_range(rows_: int, width: int, seed: int, scale: float, zero_point: int) -> None:
    x = drawn(rows_, width, seed=seed)
    found = rows.quantize_by(x, scale, zero_point)
    assert found is not None
    factor = 1 / torch.tensor(scale)
    assert torch.equal(found, (x.float() * factor + zero_point).round().clamp(0, 255).to(torch.uint8))


def test_numbers_far_outside_a_known_range_are_clipped() -> None:
    found = rows.quantize_by(torch.tensor([[3e38, -3e38, 0.0, 1.0]]).bfloat16(), 0.5, 100)
    assert found is not None
    assert found.tolist() == [[255, 0, 100, 102]]


@pytest.mark.parametrize("wrong", [torch.inf, -torch.inf, torch.nan])
def test_a_number_that_is_not_finite_is_found_beside_a_known_range(wrong: float) -> None:
    x = drawn(*LARGE)
    assert rows.quantize_by(x, 0.1, 128) is not None
    x[299, 0] = wrong
    assert rows.quantize_by(x, 0.1, 128) is None
