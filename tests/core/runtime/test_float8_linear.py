"""The fp8 layer: its product, its stored tensors, and its life in modules."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from core.drawn import FLOAT8, linear, normal, rounded
from sottovoce.runtime.float8_linear import Float8Linear
from sottovoce.runtime.layers import empty

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
BIAS = pytest.mark.parametrize("bias", [True, False])


def make(bias: bool = True, dtype: torch.dtype = torch.float32) -> Float8Linear:
    layer = linear(bias=bias, dtype=dtype)
    return Float8Linear.from_quantized(layer, *rounded(layer, FLOAT8))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@BIAS
@DTYPES
@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 64), (0, 64)])
def test_the_product_is_that_of_the_layer_it_stands_for(bias: bool, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    layer, x = make(bias, dtype), normal(*shape).to(dtype)
    with torch.no_grad():
        found, want = layer(x), layer.dequantize()(x.float())
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    assert torch.allclose(found.float(), want, atol=tolerance, rtol=tolerance)


def test_the_weight_is_near_and_takes_a_byte() -> None:
    layer = make()
    assert layer.weight.dtype == torch.float8_e4m3fn
    assert layer.weight.nbytes == 48 * 64
    error = layer.dequantize().weight - linear().weight.detach()
    assert (error.abs() <= linear().weight.detach().abs() / 16 + layer.weight_scale * 2**-10).all()


@BIAS
@DTYPES
def test_files_round_trip(bias: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    layer = make(bias, dtype)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    made = empty(linear(bias=bias, dtype=dtype), FLOAT8)
    assert made is not None
    own = {name: (tensor.shape, tensor.dtype) for name, tensor in made.state_dict().items()}
    assert own == {name: (tensor.shape, tensor.dtype) for name, tensor in layer.state_dict().items()}
    made.load_state_dict(load_file(tmp_path / "layer.safetensors"), strict=True, assign=True)
    x = normal(3, 64).to(dtype)
    assert made(x).equal(layer(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.half(),
        lambda model: model.double(),
        lambda model: model.to(torch.bfloat16),
        lambda model: model.half().float(),
        lambda model: model.to("cpu"),
    ],
    ids=["half", "double", "bfloat16", "there and back", "cpu"],
)
def test_other_dtypes_leave_the_stored_weight_as_it_is(change: object) -> None:
    layer = make()
    weight, scale = layer.weight.clone(), layer.weight_scale.clone()
    model = nn.Sequential(layer)
    change(model)  # type: ignore[operator]
    assert layer.weight.dtype == torch.float8_e4m3fn
    assert bits(layer.weight).equal(bits(weight))
    assert layer.weight_scale.dtype == scale.dtype
    assert layer.weight_scale.equal(scale)
    x = normal(3, 64).to(layer.bias.dtype)  # type: ignore[union-attr]
    assert model(x).dtype == x.dtype


def test_moving_moves_all() -> None:
    layer = make().to("meta")
    assert all(tensor.is_meta for tensor in layer.state_dict().values())
    assert layer(torch.empty(3, 64, device="meta")).shape == (3, 48)


def test_copies_are_independent() -> None:
    layer, x = make(), normal(3, 64)
    want = layer(x)
    file = io.BytesIO()
    torch.save(layer, file)  # plain pickle cannot: torch 2.13 does not read its own fp8 storages
    file.seek(0)
    twins = [copy.deepcopy(layer), torch.load(file, weights_only=False)]
    layer.weight_scale.zero_()
    assert all(twin(x).equal(want) for twin in twins)


def test_inputs_that_need_gradients_get_them() -> None:
    layer, x = make(), normal(3, 64).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, layer.dequantize().weight.sum(0).expand(3, -1), atol=1e-5)


def test_it_shows_its_size() -> None:
    assert repr(make(False)) == "Float8Linear(in_features=64, out_features=48, bias=False, fp8)"
