"""Packed weights become the floats that the qparams says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.kernels.halves import alike
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.kernels import weights
from sottovoce.runtime.packing import pack, unpack
from sottovoce.runtime.qparams import QuantizationParams

SIZES = st.integers(1, 70)


@given(
    out=SIZES,
    groups=st.integers(1, 4),
    size=SIZES,
    bits=st.sampled_from([2, 3, 4, 8]),
    symmetric=st.booleans(),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    seed=st.integers(0, 99),
)
def test_weights_become_float(
    out: int, groups: int, size: int, bits: int, symmetric: bool, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    least, most = -(1 << (bits - 1)), 1 << (bits - 1)
    qweight = torch.randint(least, most, (out, groups * size), dtype=torch.int8, generator=generator)
    scale = torch.rand(out, groups, generator=generator) + 0.01
    zero_point = None if symmetric else torch.randint(least, most, (out, groups), generator=generator).float()
    packed = pack(qweight, bits)
    assert torch.equal(unpack(packed, bits, groups * size), qweight)
    want = QuantizationParams(Scheme(bits=bits, group_size=None, symmetric=symmetric), scale, zero_point).dequantize(
        qweight, dtype
    )
    found = weights.dequantize(packed, bits, groups * size, scale, zero_point, dtype)
    assert torch.equal(found, want)


def test_a_weight_of_many_threads_becomes_float() -> None:
    qweight = torch.randint(-8, 8, (300, 256), dtype=torch.int8)
    scale = torch.rand(300, 4)
    want = QuantizationParams(Scheme(bits=4, group_size=64), scale).dequantize(qweight)
    assert torch.equal(weights.dequantize(pack(qweight, 4), 4, 256, scale, None, torch.float32), want)


@pytest.mark.parametrize("columns, groups", [(256, 3), (248, 4), (264, 4)])
def test_words_that_do_not_fit_are_refused(columns: int, groups: int) -> None:
    packed = pack(torch.zeros(3, 256, dtype=torch.int8), 4)
    with pytest.raises(ValueError, match="columns$"):
        weights.dequantize(packed, 4, columns, torch.ones(3, groups), None, torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_number_of_fp8_becomes_float(dtype: torch.dtype) -> None:
    weight = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).expand(300, 256)
    scale = torch.rand(300, 1) + 0.01
    want = weight.to(dtype) * scale.to(dtype)
    assert alike(weights.dequantize_float8(weight, scale, dtype), want)
    assert int(want.isnan().sum()) == 600
