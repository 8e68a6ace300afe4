"""Parameters of a weight: what they cover, how near the quantized values are, and what is stored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import FLOAT8, PACKED, name_of, normal
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams, merge, scale_dtype, stored_scale

INTEGERS = st.sampled_from([*PACKED, Scheme(bits=4, group_size=64), Scheme(bits=4, group_size=128, symmetric=False)])
SEEDS = st.integers(0, 999)


def spread(tensor: Tensor, width: int) -> Tensor:
    """A tensor ``[out, groups]`` for every input, ``[out, in]``."""
    return tensor.repeat_interleave(width // tensor.shape[1], 1)


@given(scheme=INTEGERS, seed=SEEDS, exponent=st.integers(-6, 6), shift=st.floats(-3, 3), groups=st.integers(1, 3))
def test_dequantized_weight_is_within_half_a_scale(
    scheme: Scheme, seed: int, exponent: int, shift: float, groups: int
) -> None:
    width = groups * (scheme.group_size or 40)
    weight = (normal(5, width, seed=seed) + shift) * 10.0**exponent
    qparams = compute_qparams(weight, scheme)
    qweight = qparams.quantize(weight)
    assert qweight.dtype == torch.int8
    assert scheme.lowest <= int(qweight.min())
    assert int(qweight.max()) <= scheme.highest
    assert qparams.scale.shape == (5, groups if scheme.group_size else 1)
    assert ((qparams.dequantize(qweight) - weight).abs() <= spread(qparams.scale, width) * 0.501).all()


@given(scheme=INTEGERS, seed=SEEDS)
def test_dequantized_value_is_value_less_zero_point_times_scale(scheme: Scheme, seed: int) -> None:
    weight = normal(3, 128, seed=seed)
    qparams = compute_qparams(weight, scheme)
    qweight = qparams.quantize(weight)
    width = scheme.group_size or 128
    for row in range(3):
        for index in range(0, 128, 17):
            group = index // width
            zero = float(qparams.zero_point[row, group]) if qparams.zero_point is not None else 0.0
            want = (int(qweight[row, index]) - zero) * float(qparams.scale[row, group])
            assert float(qparams.dequantize(qweight)[row, index]) == pytest.approx(want, rel=1e-6)


@given(scheme=INTEGERS, seed=SEEDS)
def test_zero_stays_zero(scheme: Scheme, seed: int) -> None:
    weight = normal(4, 128, seed=seed) + 2
    weight[:, ::3] = 0
    qparams = compute_qparams(weight, scheme)
    assert not qparams.dequantize(qparams.quantize(weight))[:, ::3].any()


@given(scheme=INTEGERS, seed=SEEDS, power=st.integers(1, 5))
def test_search_never_has_the_greater_squared_error(scheme: Scheme, seed: int, power: int) -> None:
    weight = normal(4, 128, seed=seed).pow(power)
    plain, searched = compute_qparams(weight, scheme), compute_qparams(weight, scheme, search=True)

    def errors(qparams: QuantizationParams) -> Tensor:
        return (
            (qparams.dequantize(qparams.quantize(weight)) - weight)
            .square()
            .reshape(4, qparams.scale.shape[1], -1)
            .sum(-1)
        )

    assert (errors(searched) <= errors(plain) * (1 + 1e-5)).all()


@pytest.mark.parametrize("group_size", [None, 32])
def test_a_search_is_nearly_as_good_as_trying_every_range(group_size: int | None) -> None:
    scheme = Scheme(bits=4, group_size=group_size)
    weight = normal(64, 256)
    plain = compute_qparams(weight, scheme)

    def errors(qparams: QuantizationParams) -> Tensor:
        lost = qparams.dequantize(qparams.quantize(weight)) - weight
        return lost.reshape(64, qparams.scale.shape[1], -1).square().sum(-1)

    every = [
        QuantizationParams(scheme, stored_scale(plain.scale * (1 - clip / 40), scheme, weight.dtype))
        for clip in range(21)
    ]
    least = torch.stack([errors(qparams) for qparams in every]).amin(0).sum()
    found = errors(compute_qparams(weight, scheme, search=True)).sum()
    assert least * 0.999 <= found <= least * 1.01
    assert found < 0.95 * errors(plain).sum()


def test_search_clips_what_is_not_worth_its_range() -> None:
    weight = normal(4, 128)
    weight[:, 0] = 5
    plain, searched = compute_qparams(weight, Scheme(bits=4)), compute_qparams(weight, Scheme(bits=4), search=True)
    assert (searched.scale < plain.scale).all()


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("scheme", [*PACKED, FLOAT8], ids=name_of)
def test_zeros_and_tiny_weights_are_kept(scheme: Scheme, search: bool) -> None:
    weight = torch.zeros(3, 64)
    weight[1] = 1e-30
    weight[2] = 1e-9
    qparams = compute_qparams(weight, scheme, search=search)
    assert (qparams.scale > 0).all()
    assert torch.allclose(qparams.dequantize(qparams.quantize(weight)), weight, rtol=1e-2, atol=1e-12)


@given(
    scheme=st.sampled_from([*PACKED, FLOAT8]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=SEEDS,
    search=st.booleans(),
)
def test_scales_are_the_numbers_that_are_stored(scheme: Scheme, dtype: torch.dtype, seed: int, search: bool) -> None:
    qparams = compute_qparams(normal(4, 64, seed=seed).to(dtype), scheme, search=search)
    assert qparams.scale.dtype == torch.float32
    assert qparams.scale.to(scale_dtype(scheme, dtype)).float().equal(qparams.scale)


@pytest.mark.parametrize(
    ("scheme", "dtype", "kept"),
    [
        (Scheme(bits=8), torch.float32, torch.float32),
        (Scheme(bits=4, group_size=32), torch.float32, torch.bfloat16),
        (Scheme(bits=8), torch.bfloat16, torch.bfloat16),
        (Scheme(bits=4, group_size=32), torch.float16, torch.float16),
    ],
    ids=str,
)
def test_scales_are_kept_as_the_model_keeps_its_weights(scheme: Scheme, dtype: torch.dtype, kept: torch.dtype) -> None:
    assert scale_dtype(scheme, dtype) == kept


@given(scale=st.floats(1e-20, 1e20), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_stored_scale_is_rounded_up_to_the_next_number(scale: float, dtype: torch.dtype) -> None:
    exact = torch.tensor([scale])
    stored = stored_scale(exact, Scheme(bits=8), dtype)
    assert stored >= exact
    assert stored <= exact * (1 + 2**-7)


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("scheme", [*PACKED, FLOAT8], ids=name_of)
def test_rows_are_a_part_of_the_whole(scheme: Scheme, search: bool) -> None:
    weight = normal(700, 1024)  # more than is worked on at a time
    qparams = compute_qparams(weight, scheme, search=search)
    whole = qparams.quantize(weight)
    for part in (slice(0, 3), slice(254, 259), slice(690, 700)):
        rows, own = qparams.rows(part), compute_qparams(weight[part], scheme, search=search)
        assert rows.scale.equal(own.scale)
        assert rows.zero_point is None or rows.zero_point.equal(own.zero_point)
        qweight = rows.quantize(weight[part])
        assert qweight.view(torch.int8).equal(whole[part].view(torch.int8))
        assert rows.dequantize(qweight).equal(qparams.dequantize(whole)[part])


def test_merging_takes_each_group_from_one_or_the_other() -> None:
    scheme = Scheme(bits=4, group_size=32, symmetric=False)
    one, other = compute_qparams(normal(3, 64), scheme), compute_qparams(normal(3, 64, seed=1), scheme)
    better = torch.tensor([[True, False], [False, False], [True, True]])
    merged = merge(better, one, other)
    assert merged.zero_point is not None and one.zero_point is not None and other.zero_point is not None
    for row in range(3):
        for group in range(2):
            source = one if better[row, group] else other
            assert merged.scale[row, group] == source.scale[row, group]
            assert source.zero_point is not None
            assert merged.zero_point[row, group] == source.zero_point[row, group]


@given(seed=SEEDS, exponent=st.integers(-6, 6))
def test_fp8_keeps_four_significant_bits_and_covers_the_largest(seed: int, exponent: int) -> None:
    weight = normal(4, 64, seed=seed) * 10.0**exponent
    qparams = compute_qparams(weight, FLOAT8)
    qweight = qparams.quantize(weight)
    assert qweight.dtype == torch.float8_e4m3fn
    assert qweight.float().abs().amax(1).eq(448).all()
    # Below 2^-6 of a step the numbers are evenly spaced.
    allowed = torch.maximum(weight.abs() / 16, qparams.scale * 2**-10)
    assert ((qparams.dequantize(qweight) - weight).abs() <= allowed * 1.001).all()


@pytest.mark.parametrize("scheme", [*PACKED, FLOAT8], ids=name_of)
def test_values_in_half_precision_are_near(scheme: Scheme) -> None:
    weight = normal(6, 64).bfloat16()
    qparams = compute_qparams(weight, scheme)
    values = qparams.dequantize(qparams.quantize(weight), torch.bfloat16)
    assert values.dtype == torch.bfloat16
    assert torch.allclose(values.float(), qparams.dequantize(qparams.quantize(weight)), rtol=1e-2)


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("scheme", [*PACKED, FLOAT8], ids=name_of)
def test_without_data_only_the_shapes_are_there(scheme: Scheme, search: bool) -> None:
    weight = torch.empty(6, 64, device="meta")
    qparams = compute_qparams(weight, scheme, search=search)
    qweight = qparams.quantize(weight)
    assert qweight.is_meta
    assert qweight.shape == qparams.dequantize(qweight).shape == (6, 64)
    assert qparams.scale.shape == (6, 2 if scheme.group_size else 1)
