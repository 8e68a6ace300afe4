"""The W8A8 linear layer: its arithmetic on every engine, its life in modules and state dicts, its choice of engine."""

import copy
import logging
import math
import threading
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sottovoce.errors import UsageError
from sottovoce.runtime.backends import int8_engine, onednn
from sottovoce.runtime.backends.int8_engine import engine
from sottovoce.runtime.int8_linear import Int8Linear

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(not works(), reason=f"{name} does not run here"))
    for name, works in int8_engine._ENGINES.items()
]


@pytest.fixture(params=ENGINES)
def each_engine(request, monkeypatch):
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", request.param)
    return request.param


def make(width=48, out=32, bias=True, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(width, out, bias)


def plain(layer, x):
    """The product in integers, by definition."""
    rows = x.detach().double().reshape(-1, x.shape[-1])
    low, high = min(float(rows.min()), 0.0), max(float(rows.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    zero_point = min(255, max(0, round(-low / scale)))
    shifted = (torch.round(rows / scale) + zero_point).clamp(0, 255) - zero_point
    product = (shifted @ layer.weight.double().t()) * scale * layer.weight_scale.double().t()
    product = product if layer.bias is None else product + layer.bias.detach().double()
    return product.view(*x.shape[:-1], -1)


def close(got, want, tolerance):
    return (got.detach().double() - want.detach().double()).abs().max() <= tolerance * want.abs().max() + 1e-12


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 80),
    out=st.integers(1, 80),
    exponent=st.integers(-6, 6),
    shift=st.floats(-4, 4),
    bias=st.booleans(),
    seed=st.integers(0, 50),
)
def test_onednn_is_the_integer_product(rows, width, out, exponent, shift, bias, seed):
    if not onednn.supported():
        pytest.skip("oneDNN does not run here")
    layer = Int8Linear.from_float(make(width, out, bias, seed))
    x = (torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) + shift) * 10.0**exponent
    # That values are rounded to nearest is tested in test_onednn; here they are taken as they are.
    quantized = onednn.quantize(x)
    product = (quantized.values.long() - quantized.zero_point) @ layer.weight.long().t()
    want = product.double() * quantized.scale * layer.weight_scale.double().t() + (layer.bias.double() if bias else 0)
    with torch.no_grad():
        assert close(layer.pack_()._kernel(x), want, 1e-5)


def test_every_engine_is_near_the_float_layer(each_engine):
    linear = make(256, 128)
    x = torch.randn(7, 256, generator=torch.Generator().manual_seed(1))
    layer = Int8Linear.from_float(linear)
    with torch.no_grad():
        got, want = layer(x), linear(x)
    assert close(got, want, 2e-2)
    assert close(got, plain(layer, x), 5e-3 if each_engine == "onednn" else 2e-2)


@pytest.mark.parametrize("shape", [(48,), (5, 48), (2, 3, 48), (2, 1, 3, 48)])
def test_any_leading_shape(each_engine, shape):
    layer = Int8Linear.from_float(make())
    x = torch.randn(shape)
    got = layer(x)
    assert got.shape == (*shape[:-1], 32)
    assert close(got, plain(layer, x), 4e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_any_float_dtype(each_engine, dtype):
    layer = Int8Linear.from_float(make())
    x = torch.randn(5, 48).to(dtype)
    got = layer(x)
    assert got.dtype == dtype
    assert close(got, plain(layer, x), 3e-2)


def test_rows_that_do_not_lie_together(each_engine):
    layer = Int8Linear.from_float(make())
    x = torch.randn(48, 10).t()
    assert torch.allclose(layer(x), layer(x.contiguous()), atol=1e-5)
    wide = torch.randn(10, 96)[:, ::2]
    assert torch.allclose(layer(wide), layer(wide.contiguous()), atol=1e-5)


def test_no_rows(each_engine):
    layer = Int8Linear.from_float(make())
    assert layer(torch.empty(2, 0, 48)).shape == (2, 0, 32)


def test_zeros_give_the_bias(each_engine):
    layer = Int8Linear.from_float(make())
    assert torch.allclose(layer(torch.zeros(3, 48)), layer.bias.expand(3, -1), atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_not_hidden(value):
    layer = Int8Linear.from_float(make())
    x = torch.zeros(3, 48)
    x[1, 2] = value
    got = layer(x)
    assert not got[1].isfinite().all()
    assert got[0].isfinite().all()


def test_rounding_is_to_nearest_and_symmetric():
    linear = make()
    layer = Int8Linear.from_float(linear)
    assert layer.weight.dtype == torch.int8
    assert layer.weight_scale.shape == (32, 1)
    assert layer.weight.abs().amax(1).eq(127).all()
    assert torch.allclose(layer.weight_scale[:, 0], linear.weight.detach().abs().amax(1) / 127)
    error = (layer.weight.float() * layer.weight_scale - linear.weight.detach()).abs()
    assert (error <= layer.weight_scale * 0.5001).all()


def test_channels_of_zeros_and_of_tiny_numbers():
    linear = make()
    with torch.no_grad():
        linear.weight[3] = 0
        linear.weight[4] = 1e-44
    layer = Int8Linear.from_float(linear)
    assert layer.weight[3].eq(0).all()
    assert layer.weight_scale.isfinite().all()
    assert layer(torch.randn(2, 48)).isfinite().all()


def test_weights_that_are_not_finite_are_refused():
    linear = make()
    with torch.no_grad():
        linear.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        Int8Linear.from_float(linear)


def test_dequantize_is_the_float_layer_it_stands_for():
    layer = Int8Linear.from_float(make())
    linear = layer.dequantize()
    assert isinstance(linear, nn.Linear)
    assert torch.equal(linear.weight, layer.weight.float() * layer.weight_scale)
    again = Int8Linear.from_float(linear)
    assert torch.equal(again.weight, layer.weight)
    assert not Int8Linear.from_float(make(bias=False)).dequantize().bias


def test_extra_repr_is_that_of_a_linear_layer():
    assert repr(Int8Linear(3, 2, True)) == "Int8Linear(in_features=3, out_features=2, bias=True)"


@pytest.mark.parametrize("bias", [True, False])
def test_state_dict_does_not_depend_on_packing(each_engine, bias):
    layer = Int8Linear.from_float(make(bias=bias))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.pack_()
    after = layer.state_dict()
    assert list(after) == list(before) == ["weight", "weight_scale", *(["bias"] if bias else [])]
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(after[name].dtype == before[name].dtype for name in before)
    assert torch.equal(layer.weight, before["weight"])


@pytest.mark.parametrize(("device", "assign"), [("cpu", True), ("cpu", False), ("meta", True)])
def test_state_dict_round_trip(each_engine, assign, device):
    layer, x = Int8Linear.from_float(make()), torch.randn(4, 48)
    want = layer(x)
    made = Int8Linear(48, 32, True, device=device)
    assert made.load_state_dict(layer.state_dict(), assign=assign).missing_keys == []
    assert torch.equal(made(x), want)


def test_loading_takes_the_place_of_packed_weights(each_engine):
    first, second, x = Int8Linear.from_float(make(seed=1)), Int8Linear.from_float(make(seed=2)), torch.randn(4, 48)
    first(x)
    generation = first.generation
    first.load_state_dict(second.state_dict())
    assert first.generation > generation
    assert torch.equal(first(x), second(x))


def test_loading_is_strict():
    layer = Int8Linear.from_float(make())
    with pytest.raises(RuntimeError, match="Missing key.*weight_scale"):
        Int8Linear(48, 32, True).load_state_dict({"weight": layer.weight, "bias": layer.bias})
    with pytest.raises(RuntimeError, match="size mismatch"):
        Int8Linear(47, 32, True).load_state_dict(layer.state_dict())


def test_copies_are_independent(each_engine):
    layer, x = Int8Linear.from_float(make()), torch.randn(4, 48)
    want = layer(x)
    twin = copy.deepcopy(nn.Sequential(layer))[0]
    layer.load_state_dict(Int8Linear.from_float(make(seed=5)).state_dict())
    assert torch.equal(twin(x), want)
    assert not torch.equal(layer(x), want)


def test_moving_to_where_it_is_keeps_the_packing(each_engine):
    layer = Int8Linear.from_float(make()).pack_()
    kernel = layer._kernel
    nn.Sequential(layer).to("cpu").float().eval()
    assert layer._kernel is kernel


def test_moving_and_halving():
    layer = Int8Linear.from_float(make()).pack_()
    scale = layer.weight_scale.clone()
    layer.to(torch.bfloat16)
    assert torch.equal(layer.weight_scale, scale)
    assert layer.bias.dtype == torch.bfloat16
    assert layer(torch.randn(2, 48, dtype=torch.bfloat16)).dtype == torch.bfloat16
    layer.to("meta")
    assert layer.weight.is_meta
    assert layer(torch.empty(2, 48, device="meta")).shape == (2, 32)


def test_unpack_makes_room_for_changes():
    layer, x = Int8Linear.from_float(make()), torch.randn(4, 48)
    layer(x)
    layer.unpack_().weight.zero_()
    assert torch.allclose(layer(x), layer.bias.expand(4, -1), atol=1e-6)


@pytest.mark.skipif(not onednn.supported(), reason="oneDNN does not run here")
def test_packed_weights_are_held_once():
    layer = Int8Linear.from_float(make()).pack_()
    assert "weight" not in dict(layer.named_buffers())
    assert isinstance(layer.packed(), onednn.PackedWeight)
    assert "weight" in dict(layer.unpack_().named_buffers())


@pytest.mark.skipif(not onednn.supported(), reason="oneDNN does not run here")
def test_a_layout_that_is_not_exact_keeps_the_plain_weight(monkeypatch):
    monkeypatch.setattr(onednn.PackedWeight, "unpack", lambda self: torch.zeros(32, 48, dtype=torch.int8))
    monkeypatch.setattr("sottovoce.runtime.backends.int8_product._EXACT_SHAPES", set())
    layer = Int8Linear.from_float(make())
    weight = layer.weight.clone()
    assert torch.equal(layer.pack_().weight, weight)


def test_gradients_flow_through_the_float_product():
    layer, x = Int8Linear.from_float(make()), torch.randn(4, 48, requires_grad=True)
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.dequantize().weight.sum(0).expand(4, -1), atol=1e-5)
    with torch.no_grad():
        assert not layer(x).requires_grad


def test_inference_mode(each_engine):
    layer, x = Int8Linear.from_float(make()), torch.randn(4, 48)
    with torch.inference_mode():
        inside = layer(x)
    assert torch.equal(layer(x), inside)
    layer.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), inside)


def test_threads_share_a_layer(each_engine):
    layer, x = Int8Linear.from_float(make()), torch.randn(4, 48)
    want = copy.deepcopy(layer)(x)
    results = []
    threads = [threading.Thread(target=lambda: results.append(layer(x))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(torch.equal(result, want) for result in results)


def test_no_warning_leaks(each_engine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = Int8Linear.from_float(make())
        layer(torch.randn(4, 48))
        copy.deepcopy(layer)(torch.randn(4, 48))
        layer.load_state_dict(layer.state_dict())


class TestEngine:
    @pytest.fixture(autouse=True)
    def _anew(self, monkeypatch):
        monkeypatch.delenv("SOTTOVOCE_INT8_ENGINE", raising=False)
        monkeypatch.setattr(int8_engine, "_warned", set())

    def choose(self, monkeypatch, **works):
        monkeypatch.setattr(
            int8_engine, "_ENGINES", {name: (lambda answer=answer: answer) for name, answer in works.items()}
        )

    def test_the_fastest_that_works_is_chosen_silently(self, monkeypatch, caplog):
        self.choose(monkeypatch, onednn=True, linear_dynamic=True, float=True)
        assert engine() == "onednn"
        assert not caplog.records

    @pytest.mark.parametrize("vnni", [True, False])
    def test_falling_back_is_said_once(self, monkeypatch, caplog, vnni):
        self.choose(monkeypatch, onednn=False, linear_dynamic=True, float=True)
        monkeypatch.setattr(onednn, "vnni", lambda: vnni)
        with caplog.at_level(logging.WARNING, logger="sottovoce"):
            assert engine() == engine() == "linear_dynamic"
        (record,) = caplog.records
        assert record.name == "sottovoce"
        assert "'linear_dynamic'" in record.getMessage()
        assert ("VNNI" in record.getMessage()) is not vnni

    def test_the_last_resort(self, monkeypatch):
        self.choose(monkeypatch, onednn=False, linear_dynamic=False, float=True)
        assert engine() == "float"

    def test_the_environment_decides(self, monkeypatch, caplog):
        monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "float")
        assert engine() == "float"
        assert not caplog.records

    def test_unknown_and_unusable_names_are_refused(self, monkeypatch):
        monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "fast")
        with pytest.raises(UsageError, match="no such engine.*onednn, linear_dynamic, float"):
            engine()
        self.choose(monkeypatch, onednn=False, float=True)
        monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "onednn")
        with pytest.raises(UsageError, match="cannot run it"):
            engine()

    def test_other_processors_do_not_try(self, monkeypatch):
        monkeypatch.setattr(onednn.platform, "machine", lambda: "aarch64")
        assert not onednn.supported.__wrapped__()

    def test_without_vnni_the_input_has_seven_bits(self, monkeypatch):
        seen = []
        product = torch.ops.quantized.linear_dynamic
        monkeypatch.setattr(onednn, "vnni", lambda: False)
        monkeypatch.setattr(torch.ops.quantized, "linear_dynamic", lambda *args: seen.append(args[2]) or product(*args))
        assert int8_engine._linear_dynamic_works.__wrapped__()
        assert seen == [True]

    def test_a_build_without_dynamic_products_is_found_out(self, monkeypatch):
        monkeypatch.setattr(torch.ops.quantized, "linear_dynamic", lambda *_: torch.zeros(3, 24))
        assert not int8_engine._linear_dynamic_works.__wrapped__()
