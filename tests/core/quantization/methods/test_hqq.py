"""HQQ never errs more than rounding to nearest, by its own measure, and less where a few weights stand out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import name_of, normal
from sottovoce.quantization.data_free import quantize_weight
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams

SCHEMES = [
    Scheme(bits=4, group_size=group_size, symmetric=symmetric)
    for group_size in (None, 32)
    for symmetric in (True, False)
]
INTEGERS = [
    *SCHEMES,
    Scheme(bits=2, group_size=32),
    Scheme(bits=3, symmetric=False),
    Scheme(bits=8),
    Scheme(bits=8, group_size=32, symmetric=False),
]


def plain_costs(weight: Tensor, steps: Tensor, qparams: QuantizationParams) -> Tensor:
    """Sums of the errors' magnitudes to the power 0.7, one for each group ``[out, groups]``."""
    width = qparams.scheme.group_size or weight.shape[1]
    errors = torch.empty_like(weight)
    for index in range(weight.shape[1]):
        group = index // width
        zero = qparams.zero_point[:, group] if qparams.zero_point is not None else 0
        errors[:, index] = weight[:, index] - (steps[:, index] - zero) * qparams.scale[:, group]
    return errors.abs().pow(0.7).reshape(len(weight), -1, width).sum(-1)


def hqq(weight: Tensor, scheme: Scheme) -> tuple[Tensor, QuantizationParams]:
    return quantize_weight(weight, scheme, Quantize(method="hqq"))


def heavy_tailed(rows: int, width: int, seed: int = 0) -> Tensor:
    """Student's t with three degrees of freedom."""
    return normal(rows, width, seed=seed) / (normal(3, rows, width, seed=seed + 1).square().mean(0)).sqrt()


@settings(max_examples=40)
@given(
    scheme=st.sampled_from(INTEGERS),
    seed=st.integers(0, 999),
    size=st.floats(1e-4, 1e4),
    shift=st.floats(-2, 2),
    heavy=st.booleans(),
)
def test_no_group_errs_more_than_by_rounding_to_nearest(
    scheme: Scheme, seed: int, size: float, shift: float, heavy: bool
) -> None:
    weight = ((heavy_tailed if heavy else normal)(6, 64, seed=seed) + shift) * size
    steps, qparams = hqq(weight, scheme)
    nearest = compute_qparams(weight, scheme)
    costs, nearest_costs = plain_costs(weight, steps, qparams), plain_costs(weight, nearest.quantize(weight), nearest)
    assert (costs <= nearest_costs * (1 + 1e-4)).all()
    assert steps.dtype == torch.int8
    assert steps.equal(qparams.quantize(weight))
    if qparams.zero_point is not None:
        assert qparams.zero_point.equal(qparams.zero_point.round())
        assert (scheme.lowest <= qparams.zero_point).all()
        assert (qparams.zero_point <= scheme.highest).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_weights_with_heavy_tails_err_less(scheme: Scheme) -> None:
    weight = heavy_tailed(64, 256)
    steps, qparams = hqq(weight, scheme)
    nearest = compute_qparams(weight, scheme)
    found, by_rounding = plain_costs(weight, steps, qparams), plain_costs(weight, nearest.quantize(weight), nearest)
    assert found.sum() < 0.98 * by_rounding.sum()


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_scales_are_what_is_stored(scheme: Scheme, dtype: torch.dtype) -> None:
    _, qparams = hqq(heavy_tailed(8, 64).to(dtype), scheme)
    assert qparams.scale.dtype == torch.float32
    assert qparams.scale.equal(qparams.scale.to(dtype).float())


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_zeros_and_constants_are_kept(scheme: Scheme) -> None:
    weight = torch.zeros(3, 64)
    weight[1], weight[2] = 0.5, -3.0
    steps, qparams = hqq(weight, scheme)
    assert torch.allclose(qparams.dequantize(steps), weight, rtol=1e-2)


def test_one_input_is_no_trouble() -> None:
    weight = torch.tensor([[0.3], [-0.7]])
    steps, qparams = hqq(weight, Scheme(bits=8))
    assert torch.allclose(qparams.dequantize(steps), weight)


def test_a_weight_without_data_gives_steps_without_data() -> None:
    steps, qparams = hqq(torch.empty(4, 64, device="meta"), SCHEMES[-1])
    assert steps.is_meta
    assert steps.shape == (4, 64)
    assert qparams.scale.shape == (4, 2)
