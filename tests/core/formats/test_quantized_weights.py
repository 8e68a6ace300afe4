"""A graph's float weight leads back to the quantized values that it stands for."""

from __future__ import annotations

import numpy
import pytest
from torch import nn

from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams

SCHEMES = {
    "int8": Scheme(bits=8, activations="dynamic"),
    "int8-weight": Scheme(bits=8),
    "int4": Scheme(bits=4, group_size=16),
    "int4 with zero points": Scheme(bits=4, group_size=16, symmetric=False),
    "int3": Scheme(bits=3, group_size=16),
    "int2 with zero points": Scheme(bits=2, group_size=16, symmetric=False),
}


@pytest.fixture(params=SCHEMES.values(), ids=SCHEMES)
def layer(request: pytest.FixtureRequest) -> nn.Module:
    linear = nn.Linear(48, 20)
    qparams = compute_qparams(linear.weight.detach(), request.param)
    return from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)


@pytest.mark.parametrize("transposed", [False, True])
def test_values_and_scales_give_the_weight_of_the_graph_bit_by_bit(layer: nn.Module, transposed: bool) -> None:
    weight = layer.dequantize().weight.detach().numpy()
    place = QuantizedWeights(nn.Sequential(nn.ReLU(), layer)).find(weight.T if transposed else weight)
    assert place is not None
    assert place.transposed is transposed
    values = place.weight
    assert values.name == "1"
    assert values.qweight.dtype == numpy.int8
    groups = values.qweight.astype(numpy.float32).reshape(20, -1, values.group_size)
    if values.zero_point is not None:
        groups = groups - values.zero_point[..., None].astype(numpy.float32)
    assert ((groups * values.scale[..., None]).reshape(weight.shape) == weight).all()


def test_a_table_is_known_as_layers_are() -> None:
    table = Int8Embedding.from_float(nn.Embedding(30, 8))
    place = QuantizedWeights(nn.ModuleDict({"table": table})).find(table.dequantize().weight.detach().numpy())
    assert place is not None
    assert place.weight.name == "table"


def test_another_weight_has_nothing_behind_it(layer: nn.Module) -> None:
    known = QuantizedWeights(layer)
    weight = layer.dequantize().weight.detach().numpy()
    changed = weight.copy()
    changed[3, 4] += 1e-3
    assert known.find(changed) is None
    assert known.find(weight.reshape(-1)) is None
    assert known.find(weight.astype(numpy.float64)) is None
    assert len(QuantizedWeights(nn.Linear(3, 4))) == 0
