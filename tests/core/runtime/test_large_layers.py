"""Layers large enough for compiled kernels run by them, to the same bits as by PyTorch's operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from core.drawn import FLOAT8, PACKED, linear, name_of, normal, rounded
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.float8_linear import Float8Linear
from sottovoce.runtime.kernels import availability
from sottovoce.runtime.packed_linear import PackedLinear

pytestmark = pytest.mark.skipif(not availability.available(), reason="kernels cannot be compiled here")
WIDTH, OUT = 576, 912
"""Half a million weights."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """What kernels made of weights."""
    from sottovoce.runtime.kernels import weights

    found: list[torch.dtype] = []
    for name in ("dequantize", "dequantize_float8"):
        own = getattr(weights, name)

        def recorded(*given: Any, own: Any = own) -> Tensor:
            found.append(given[-1])
            result: Tensor = own(*given)
            return result

        monkeypatch.setattr(weights, name, recorded)
    return found


def layer(scheme: Scheme, width: int, dtype: torch.dtype) -> torch.nn.Module:
    kind = Float8Linear if scheme is FLOAT8 else PackedLinear
    plain = linear(width, OUT, True, dtype)
    return kind.from_quantized(plain, *rounded(plain, scheme))


@pytest.mark.parametrize("scheme", [*PACKED, FLOAT8], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_are_the_same_either_way(
    scheme: Scheme, dtype: torch.dtype, made: list[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    large, x = layer(scheme, WIDTH, dtype), normal(3, WIDTH).to(dtype)
    with torch.no_grad():
        found = large(x)
        assert made == [dtype]
        monkeypatch.setenv(availability.VARIABLE, "torch")
        assert found.equal(large(x))
    assert made == [dtype]


def test_small_layers_are_not_worth_it(made: list[torch.dtype]) -> None:
    small, x = layer(PACKED[0], 64, torch.float32), normal(3, 64)
    with torch.no_grad():
        small(x)
    assert made == []


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rows_of_an_odd_number_of_values_are_run_by_kernels_too(bits: int, made: list[torch.dtype]) -> None:
    odd, x = layer(Scheme(bits=bits, group_size=None), WIDTH + 1, torch.float32), normal(3, WIDTH + 1)
    weight = odd.qparams().dequantize(odd.qweight())
    with torch.no_grad():
        assert torch.allclose(odd(x), x @ weight.t() + odd.bias, atol=1e-4)
    assert made == [torch.float32]


def test_other_dtypes_are_left_to_pytorch(made: list[torch.dtype]) -> None:
    large, x = layer(PACKED[0], WIDTH, torch.float32), normal(3, WIDTH).double()
    with torch.no_grad():
        assert large(x).dtype == torch.float64
    assert made == []
