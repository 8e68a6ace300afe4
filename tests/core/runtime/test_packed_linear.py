"""The packed layer: its product, what it takes in memory and on disk, and its life in modules."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from core.drawn import PACKED, linear, name_of, normal, rounded
from sottovoce.errors import CheckpointError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import onednn_float
from sottovoce.runtime.layers import empty
from sottovoce.runtime.packed_linear import PackedLinear

EACH = pytest.mark.parametrize("scheme", PACKED, ids=name_of)
FOUR = Scheme(bits=4, group_size=32, symmetric=False)


def make(scheme: Scheme, bias: bool = True, dtype: torch.dtype = torch.float32, out: int = 48) -> PackedLinear:
    layer = linear(64, out, bias, dtype)
    return PackedLinear.from_quantized(layer, *rounded(layer, scheme))


def stored(layer: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].equal(other[name]) for name in one
    )


@EACH
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(64,), (5, 64), (2, 3, 64), (0, 64)])
def test_the_product_is_that_of_the_layer_it_stands_for(
    scheme: Scheme, bias: bool, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    layer, x = make(scheme, bias, dtype), normal(*shape).to(dtype)
    with torch.no_grad():
        found, want = layer(x), layer.dequantize()(x.float())
    assert found.dtype == dtype
    assert found.shape == (*shape[:-1], 48)
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    assert torch.allclose(found.float(), want, atol=tolerance, rtol=tolerance)


@EACH
def test_quantized_values_and_qparams_are_kept(scheme: Scheme) -> None:
    qweight, qparams = rounded(linear(), scheme)
    layer = make(scheme)
    assert layer.qweight().equal(qweight)
    assert layer.qparams().scale.equal(qparams.scale)
    assert layer.dequantize().weight.equal(qparams.dequantize(qweight))
    found = layer.qparams().zero_point
    assert (found is None) == (qparams.zero_point is None)
    assert found is None or qparams.zero_point is None or found.equal(qparams.zero_point)


@EACH
def test_one_scale_for_each_output_is_the_same_weight_or_close_to_it(scheme: Scheme) -> None:
    layer = make(scheme)
    values, scale = layer.by_channel()
    assert (values.dtype, values.shape, scale.shape) == (torch.int8, (48, 64), (48, 1))
    weight = layer.dequantize().weight
    difference = (values * scale - weight).abs()
    if scheme.bits == 8 and scheme.symmetric and scheme.group_size is None:
        assert not difference.any()
    # Half of a step of the largest weight.
    assert bool((difference <= weight.abs().amax(1, keepdim=True) * (0.5 / 127 + 1e-6)).all())


@given(
    width=st.integers(1, 70),
    out=st.integers(1, 70),
    bits=st.sampled_from([2, 3, 4, 8]),
    symmetric=st.booleans(),
    grouped=st.booleans(),
)
def test_any_size(width: int, out: int, bits: int, symmetric: bool, grouped: bool) -> None:
    width = 32 * (1 + width % 3) if grouped else width
    scheme = Scheme(bits=bits, symmetric=symmetric, group_size=32 if grouped else None)  # type: ignore[arg-type]
    layer = linear(width, out)
    qweight, qparams = rounded(layer, scheme)
    made = PackedLinear.from_quantized(layer, qweight, qparams)
    assert made.dequantize().weight.equal(qparams.dequantize(qweight))
    again = empty(layer, scheme)
    assert again is not None
    again.load_state_dict(made.state_dict(), assign=True)
    assert again(normal(2, width)).equal(made(normal(2, width)))


def test_four_bits_are_four_bits() -> None:
    layer = make(Scheme(bits=4, group_size=32))
    assert layer.weight_packed.nbytes == 48 * 64 // 2
    assert sum(tensor.nbytes for tensor in layer.state_dict().values()) < 48 * 64 * 4.6 / 8 + 48 * 4 + 16
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    layer(normal(2, 64))
    held = {tensor.untyped_storage().nbytes() for tensor in (*layer.buffers(), *layer.parameters())}
    assert max(held) == 48 * 64 // 2


@EACH
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_files_round_trip(scheme: Scheme, bias: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    layer = make(scheme, bias, dtype)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    made = empty(linear(bias=bias, dtype=dtype), scheme)
    assert made is not None
    expected = {"weight_packed", "weight_scale", "weight_shape"}
    expected |= ({"bias"} if bias else set()) | (set() if scheme.symmetric else {"weight_zero_point"})
    assert set(made.state_dict()) == expected
    own = {name: (tensor.shape, tensor.dtype) for name, tensor in made.state_dict().items()}
    assert own == {name: (tensor.shape, tensor.dtype) for name, tensor in layer.state_dict().items()}
    made.load_state_dict(load_file(tmp_path / "layer.safetensors"), strict=True, assign=True)
    assert same(stored(made), stored(layer))
    assert made(normal(3, 64).to(dtype)).equal(layer(normal(3, 64).to(dtype)))


@EACH
@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.half(),
        lambda layer: layer.double(),
        lambda layer: layer.to(torch.bfloat16),
        lambda layer: layer.half().float(),
        lambda layer: layer.to("cpu"),
    ],
    ids=["half", "double", "bfloat16", "there and back", "cpu"],
)
def test_other_dtypes_leave_the_stored_weight_as_it_is(scheme: Scheme, change: object) -> None:
    layer = make(scheme)
    before = stored(layer)
    model = nn.Sequential(layer)
    change(model)  # type: ignore[operator]
    after = stored(layer)
    assert same({**after, "bias": before["bias"]}, before)
    x = normal(3, 64).to(layer.bias.dtype)  # type: ignore[union-attr]
    assert model(x).dtype == x.dtype


def test_moving_moves_all() -> None:
    layer = make(FOUR).to("meta")
    assert all(tensor.is_meta for tensor in layer.state_dict().values())
    assert layer(torch.empty(3, 64, device="meta")).shape == (3, 48)


@EACH
def test_copies_and_pickles_are_independent(scheme: Scheme) -> None:
    layer, x = make(scheme), normal(3, 64)
    want = layer(x)
    twins = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    layer.weight_packed.zero_()
    assert all(twin(x).equal(want) for twin in twins)
    assert all(twin.scheme == scheme for twin in twins)
    assert not layer(x).equal(want)


def test_inputs_that_need_gradients_get_them() -> None:
    layer, x = make(FOUR), normal(3, 64).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, layer.dequantize().weight.sum(0).expand(3, -1), atol=1e-5)


def test_without_onednn_the_product_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = make(FOUR), normal(3, 64)
    want = layer(x)
    monkeypatch.setattr(onednn_float, "float_supported", lambda: False)
    assert torch.allclose(layer(x), want, atol=1e-5)


def test_inputs_that_do_not_lie_together() -> None:
    layer, x = make(FOUR), normal(64, 3).t()
    assert torch.allclose(layer(x), layer(x.contiguous()), atol=1e-6)


def test_it_shows_its_size_and_width() -> None:
    assert repr(make(FOUR)) == "PackedLinear(in_features=64, out_features=48, bias=True, bits=4, group_size=32)"
    assert not make(FOUR).eval().training


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_that_of_the_layer(training: bool) -> None:
    layer = linear().train(training)
    made = PackedLinear.from_quantized(layer, *rounded(layer, FOUR))
    assert made.training is made.dequantize().training is training


@pytest.mark.parametrize("shape", [[4, 31], [32, 4], [4], [0, 0], [4, 32, 1], [-4, 32]])
def test_a_shape_that_is_not_the_weights_is_refused(shape: list[int]) -> None:
    layer = PackedLinear(32, 4, False, Scheme(bits=4, group_size=16))
    state = layer.state_dict()
    layer.load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"the weight_shape of the layer '0' is not \[4, 32\]"):
        nn.Sequential(layer).load_state_dict(
            {f"0.{name}": tensor for name, tensor in (state | {"weight_shape": torch.tensor(shape)}).items()}
        )
