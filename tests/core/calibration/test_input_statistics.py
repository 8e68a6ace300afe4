"""What is counted of a layer's inputs, against plain sums."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.drawn import normal
from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.errors import NotFiniteError


@given(calls=st.lists(st.integers(0, 30), min_size=1, max_size=5), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_statistics_equal_plain_sums_over_all_rows(calls: list[int], width: int, seed: int) -> None:
    parts = [normal(rows, width, seed=seed + number) for number, rows in enumerate(calls)]
    statistics = InputStatistics(width)
    for part in parts:
        statistics.add("layer", part)
    x = torch.cat(parts)
    assert statistics.rows == len(x)
    if not len(x):
        assert not statistics.values.any()
        return
    assert torch.allclose(statistics.hessian, x.t() @ x / len(x), atol=1e-5)
    assert torch.allclose(statistics.mean_magnitude, x.abs().mean(0), atol=1e-6)
    assert statistics.largest.equal(x.abs().amax(0))
    assert statistics.values.min() == x.min()
    assert statistics.values.max() == x.max()


@pytest.mark.parametrize("shape", [(24, 8), (4, 6, 8), (2, 3, 4, 8), (24, 1, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_leading_dimensions_are_rows(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = normal(*shape).to(dtype)
    statistics = InputStatistics(8)
    statistics.add("layer", x)
    rows = x.float().reshape(-1, 8)
    assert statistics.rows == 24
    assert torch.allclose(statistics.hessian, rows.t() @ rows / 24, atol=1e-5)


def test_vector_counts_as_one_row() -> None:
    statistics = InputStatistics(8)
    statistics.add("layer", normal(8))
    assert statistics.rows == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_inputs_that_are_not_finite_are_refused_with_the_layer_s_name(value: float) -> None:
    x = normal(4, 8)
    x[2, 3] = value
    statistics = InputStatistics(8)
    with pytest.raises(NotFiniteError, match=r"the inputs of the layer 'blocks\.0' are not finite"):
        statistics.add("blocks.0", x)
    assert statistics.rows == 0


def test_statistics_without_moments_have_no_hessian() -> None:
    statistics = InputStatistics(8, moments=False)
    statistics.add("layer", normal(4, 8))
    assert statistics.rows == 4
    with pytest.raises(ValueError, match="second moments were not kept"):
        _ = statistics.hessian


def test_rescale_equals_statistics_of_divided_inputs() -> None:
    x, factors = normal(50, 8), normal(8, seed=1).abs() + 0.5
    found, want = InputStatistics(8), InputStatistics(8)
    found.add("layer", x)
    found.rescale(factors)
    want.add("layer", x / factors)
    assert torch.allclose(found.hessian, want.hessian, atol=1e-5)
    assert torch.allclose(found.mean_magnitude, want.mean_magnitude)
    assert torch.allclose(found.largest, want.largest)


@pytest.mark.parametrize("shape", [(256, 512), (100, 560), (4096, 96), (3, 50_000), (5000, 2)])
def test_kept_values_are_few_and_of_all_features(shape: tuple[int, int]) -> None:
    statistics = InputStatistics(shape[1], moments=False)
    # Every value tells which input it is of.
    statistics.add("layer", torch.arange(shape[1]).expand(shape) + 1.0)
    values = statistics.values
    assert len(values) <= 4098
    if shape[1] < 1000:
        assert len(values.unique()) == shape[1]


@pytest.mark.parametrize("rows", [100, 3000])  # fewer and more than wait to be multiplied together
def test_later_writes_to_an_input_do_not_change_statistics(rows: int) -> None:
    statistics, want = InputStatistics(4), torch.zeros(4, 4)
    for seed in (0, 1):
        x = normal(rows, 4, seed=seed)
        want += x.t() @ x
        statistics.add("layer", x)
        x.zero_()
    assert torch.allclose(statistics.hessian, want / (2 * rows), rtol=1e-4, atol=1e-5)


def test_inputs_added_after_reading_moments_are_counted() -> None:
    statistics, x = InputStatistics(4), normal(20, 4)
    statistics.add("layer", x[:5])
    assert torch.allclose(statistics.hessian, x[:5].t() @ x[:5] / 5, atol=1e-5)
    statistics.add("layer", x[5:])
    assert torch.allclose(statistics.hessian, x.t() @ x / 20, atol=1e-5)
