"""The calibrated range of an input against plain computations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import normal
from sottovoce.quantization.activation_range import choose_range
from sottovoce.quantization.step import StaticRange
from sottovoce.runtime.backends.int8_kernels import InputRange

MINMAX, MSE = StaticRange(choose="minmax"), StaticRange(choose="mse")


def plain_range(low: float, high: float) -> InputRange:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return InputRange(scale, round(-128 - low / scale))


def plain_error(values: Tensor, found: InputRange) -> float:
    """Sum of the squared errors of rounding."""
    steps = ((values.double() / found.scale).round() + found.zero_point).clamp(-128, 127)
    return float(((steps - found.zero_point) * found.scale - values).square().sum())


def same(found: InputRange, want: InputRange) -> bool:
    return found.scale == pytest.approx(want.scale, rel=1e-6) and found.zero_point == want.zero_point


@given(seed=st.integers(0, 99), shift=st.floats(-5, 5), exponent=st.integers(-4, 4))
def test_minmax_covers_all(seed: int, shift: float, exponent: int) -> None:
    values = (normal(300, seed=seed) + shift) * 10.0**exponent
    found = choose_range(values, MINMAX)
    assert same(found, plain_range(float(values.min()), float(values.max())))
    assert plain_error(values, found) <= len(values) * (0.51 * found.scale) ** 2


@pytest.mark.parametrize(("percentile", "left_out"), [(100, 0), (99.9, 1), (99, 10), (90, 100)])
def test_percentile_leaves_the_outermost_out(percentile: float, left_out: int) -> None:
    values = normal(1001)
    ordered = sorted(values.tolist())
    found = choose_range(values, StaticRange(choose="percentile", percentile=percentile))
    assert same(found, plain_range(ordered[left_out], ordered[-1 - left_out]))


@pytest.mark.parametrize("one_sided", [True, False])
def test_mse_is_the_best_of_the_clipped_ranges(one_sided: bool) -> None:
    values = normal(50_000) / 3
    values[:2] = torch.tensor([2.0, -1.9])
    values = values.relu() if one_sided else values
    low, high = float(values.min()), float(values.max())
    candidates = [plain_range(low * clip / 64, high * clip / 64) for clip in range(1, 65)]
    best = min(candidates, key=lambda candidate: plain_error(values, candidate))
    assert same(choose_range(values, MSE), best)
    assert best.scale < candidates[-1].scale


@given(seed=st.integers(0, 999), power=st.integers(1, 5), shift=st.floats(-3, 3), size=st.floats(1e-3, 1e3))
def test_mse_is_never_worse_than_minmax(seed: int, power: int, shift: float, size: float) -> None:
    values = (normal(200, seed=seed).pow(power) + shift) * size
    assert plain_error(values, choose_range(values, MSE)) <= plain_error(values, choose_range(values, MINMAX)) * 1.001


@pytest.mark.parametrize("choose", ["minmax", "percentile", "mse"])
class TestEdges:
    def test_values_of_a_relu_use_all_the_steps(self, choose: str) -> None:
        values = normal(5000).relu()
        found = choose_range(values, StaticRange(choose=choose))  # type: ignore[arg-type]
        assert found.zero_point == -128
        assert plain_error(values, found) / len(values) < found.scale**2

    def test_negative_values_have_zero_at_the_top(self, choose: str) -> None:
        assert choose_range(-normal(5000).abs(), StaticRange(choose=choose)).zero_point == 127  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [0.37, -2.0, 1e-20])
    def test_a_constant_is_met(self, choose: str, value: float) -> None:
        found = choose_range(torch.full((50,), value), StaticRange(choose=choose))  # type: ignore[arg-type]
        step = max(-128, min(127, round(value / found.scale) + found.zero_point))
        assert (step - found.zero_point) * found.scale == pytest.approx(value, rel=1e-2)

    def test_zeros_have_a_range_that_can_be_divided_by(self, choose: str) -> None:
        found = choose_range(torch.zeros(50), StaticRange(choose=choose))  # type: ignore[arg-type]
        assert found.scale > 0
        assert -128 <= found.zero_point <= 127

    def test_the_scale_is_a_float32(self, choose: str) -> None:
        scale = choose_range(normal(100), StaticRange(choose=choose)).scale  # type: ignore[arg-type]
        assert torch.tensor(scale).item() == scale
