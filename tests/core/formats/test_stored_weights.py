"""Layers that store integers compute the float layer that a compressed layer stands for, bit by bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce.formats.stored_weights import StoredLinear, store_weights
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams

WIDTH, OUTPUTS = 48, 20
SCHEMES = {
    "int8": Scheme(bits=8, activations="dynamic"),
    "int8 in groups": Scheme(bits=8, group_size=16),
    "int4": Scheme(bits=4, group_size=16),
    "int4 with zero points": Scheme(bits=4, group_size=16, symmetric=False),
    "int3": Scheme(bits=3, group_size=16),
    "int2 with zero points": Scheme(bits=2, group_size=16, symmetric=False),
    "int4 of an odd width": Scheme(bits=4),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_weights_are_those_of_the_float_layer_bit_by_bit(name: str) -> None:
    scheme = SCHEMES[name]
    linear = nn.Linear(WIDTH + ("odd" in name), OUTPUTS, bias="odd" not in name)
    qparams = compute_qparams(linear.weight.detach(), scheme)
    layer = from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)
    stands_for = layer.dequantize()
    module = nn.Sequential(stands_for, nn.ReLU(), nn.Linear(OUTPUTS, 3))
    assert store_weights(module, QuantizedWeights(layer)) == 1
    stored = module[0]
    assert isinstance(stored, StoredLinear)
    assert type(module[2]) is nn.Linear
    assert torch.equal(stored.weight(), stands_for.weight)
    x = torch.randn(2, 3, linear.in_features)
    assert torch.equal(stored(x), stands_for(x))
    width = linear.in_features // (2 if scheme.bits < 8 and "odd" not in name else 1)
    assert stored.values.shape == (OUTPUTS, width)
    assert stored.values.element_size() == 1


def test_without_compressed_layers_nothing_is_replaced() -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    assert store_weights(module, QuantizedWeights(nn.Linear(4, 4))) == 0
    assert type(module[0]) is nn.Linear
