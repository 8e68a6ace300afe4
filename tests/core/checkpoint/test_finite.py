"""Weights that are numbers, and scales that are positive."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sottovoce.checkpoint.finite import require_finite
from sottovoce.errors import NotFiniteError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.packed_linear import PackedLinear

BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nan_weight_is_named(value: float, dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).to(dtype)
    require_finite(module)
    with torch.no_grad():
        module[1].weight[2, 3] = value
    with pytest.raises(NotFiniteError, match="the weight of the layer '1' is not finite"):
        require_finite(module)


@pytest.mark.parametrize("value", [*BAD, 0.0, -0.0, -0.5])
@pytest.mark.parametrize(
    "layer", [Int8Linear(8, 4, False), PackedLinear(32, 4, False, Scheme(bits=4, group_size=16))], ids=repr
)
def test_nonpositive_scale_is_named(value: float, layer: Int8Linear | PackedLinear) -> None:
    module = nn.Sequential(layer)
    layer.weight_scale = torch.ones_like(layer.weight_scale)
    require_finite(module)
    layer.weight_scale.view(-1)[-1] = value
    with pytest.raises(NotFiniteError, match="the weight_scale of the layer '0' is not (positive|finite)"):
        require_finite(module)


def test_buffer_may_hold_infinity_but_not_nan() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    require_finite(module)
    module.register_buffer("mask", torch.tensor([0.0, float("nan")]))
    with pytest.raises(NotFiniteError, match="'mask' is not finite"):
        require_finite(module)
