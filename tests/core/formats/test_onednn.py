"""What the undocumented oneDNN operators of PyTorch do, held against plain computations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.formats import onednn

pytestmark = pytest.mark.skipif(not onednn.supported(), reason="this CPU or this PyTorch has no fast u8 by s8 product")

SIZES = st.integers(1, 70)


def draw(rows, width, out, seed=0, bias=True):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (out, width), generator=generator, dtype=torch.int8)
    scale = torch.rand(out, 1, generator=generator) + 0.01
    given_bias = torch.randn(out, generator=generator) if bias else None
    values = torch.randint(0, 256, (rows, width), generator=generator, dtype=torch.uint8)
    x = onednn.Activations(values, 0.02, int(torch.randint(0, 256, (), generator=generator)))
    integers = (values.long() - x.zero_point) @ weight.long().t()
    want = integers.double() * x.scale * scale.flatten().double() + (given_bias.double() if bias else 0)
    return onednn.pack(weight, scale, given_bias), x, weight, want


def close(got, want, tolerance=1e-5):
    return torch.allclose(got.double(), want, rtol=tolerance, atol=tolerance * float(want.abs().max()))


@settings(max_examples=40, deadline=None)
@given(rows=SIZES, width=SIZES, out=SIZES, seed=st.integers(0, 99), bias=st.booleans())
def test_product_is_that_of_integers(rows, width, out, seed, bias):
    packed, x, _, want = draw(rows, width, out, seed, bias)
    got = onednn.linear(x, packed)
    assert got.dtype == torch.float32
    assert got.shape == (rows, out)
    assert close(got, want)


@settings(max_examples=40, deadline=None)
@given(rows=SIZES, width=SIZES, out=SIZES, seed=st.integers(0, 99))
def test_packing_loses_nothing(rows, width, out, seed):
    packed, _, weight, _ = draw(rows, width, out, seed)
    assert torch.equal(packed.unpack(), weight)


def test_product_with_relu():
    packed, x, _, want = draw(9, 40, 50)
    assert close(onednn.linear(x, packed, relu=True), want.relu())


def test_product_in_bfloat16():
    packed, x, _, want = draw(9, 40, 50)
    got = onednn.linear(x, packed, dtype=torch.bfloat16)
    assert got.dtype == torch.bfloat16
    assert close(got, want, 1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_is_added_in_place(dtype):
    packed, x, _, want = draw(9, 40, 50)
    total = torch.linspace(-50, 50, 9 * 50).view(9, 50).to(dtype)
    before = total.double()
    got = onednn.linear_add_(total, x, packed)
    assert got.data_ptr() == total.data_ptr()
    assert close(total, want + before, 1e-5 if dtype == torch.float32 else 2e-2)


def test_extremes_do_not_saturate():
    packed = onednn.pack(torch.full((16, 4096), 127, dtype=torch.int8), torch.ones(16))
    x = onednn.Activations(torch.full((3, 4096), 255, dtype=torch.uint8), 1.0, 0)
    assert onednn.linear(x, packed).eq(255 * 127 * 4096).all()


@pytest.mark.parametrize("maker", [onednn._bytes_by_kernel, onednn._bytes_by_operators])
@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
def test_quantized_values_are_the_nearest_steps(maker, offset, magnitude, monkeypatch):
    monkeypatch.setattr(onednn, "_quantizer", lambda: maker)
    x = (torch.randn(5, 4, 33, generator=torch.Generator().manual_seed(0)) + offset) * magnitude
    quantized = onednn.quantize(x)
    assert quantized.values.dtype == torch.uint8
    assert quantized.values.shape == (20, 33)
    back = (quantized.values.double() - quantized.zero_point) * quantized.scale
    assert (back - x.reshape(20, 33).double()).abs().max() <= quantized.scale * 0.51


def test_zero_is_a_step():
    for x in (torch.tensor([[1.0, 2.0]]), torch.tensor([[-1.0, -2.0]]), torch.zeros(1, 2), torch.full((1, 2), 1e-40)):
        quantized = onednn.quantize(x)
        assert 0 <= quantized.zero_point <= 255
        assert quantized.scale > 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value):
    assert onednn.quantize(torch.tensor([[0.0, value, 1.0]])) is None


def test_quantizing_takes_any_layout_and_dtype():
    x = torch.randn(6, 8)
    want = onednn.quantize(x).values
    assert torch.equal(onednn.quantize(x.t().contiguous().t()).values, want)
    assert torch.equal(onednn.quantize(x.double()).values, want)


def test_bytes_outlive_the_quantized_tensor():
    x = torch.arange(0, 256.0).view(1, 256)
    values = onednn.quantize(x).values
    junk = [torch.full((1, 256), 7, dtype=torch.uint8) for _ in range(50)]
    assert values.flatten().tolist() == list(range(256))
    assert len(junk) == 50


def test_operators_take_the_place_of_a_missing_kernel(monkeypatch):
    def gone(*_):
        raise AttributeError("quantized tensors were removed")

    monkeypatch.setattr(torch, "quantize_per_tensor", gone)
    assert onednn._quantizer.__wrapped__() is onednn._bytes_by_operators


@pytest.mark.parametrize("failure", [RuntimeError, AttributeError, NotImplementedError])
def test_builds_without_the_operators_are_found_out(failure, monkeypatch):
    def gone(*_, **__):
        raise failure

    monkeypatch.setattr(onednn, "pack", gone)
    assert not onednn.supported.__wrapped__()


def test_kernels_that_saturate_are_found_out(monkeypatch):
    exact = onednn.linear
    monkeypatch.setattr(onednn, "linear", lambda *args, **kwargs: exact(*args, **kwargs).clamp(max=1e4))
    assert not onednn.supported.__wrapped__()


def test_float_linear_is_the_float_product():
    if not onednn.float_supported():
        pytest.skip("oneDNN does not run here")
    linear = torch.nn.Linear(48, 100)
    x = torch.randn(2, 7, 48)
    with torch.no_grad():
        assert torch.allclose(onednn.float_linear(x, linear.weight, linear.bias), linear(x), atol=1e-5)
        assert torch.allclose(onednn.float_linear(x, linear.weight, None), x @ linear.weight.t(), atol=1e-5)
