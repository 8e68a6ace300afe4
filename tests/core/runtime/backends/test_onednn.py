"""What the undocumented oneDNN operators of PyTorch do, held against plain computations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.runtime.backends import onednn, onednn_float

pytestmark = pytest.mark.skipif(not onednn.supported(), reason="this CPU or this PyTorch has no fast u8 by s8 product")

SIZES = st.integers(1, 70)
FILLED_UP = (), ((1 << 19, 16),)
"""Rows that inputs are filled up to, for any weight of a test: none, or 16."""


def draw(rows, width, out, seed=0, bias=True):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (out, width), generator=generator, dtype=torch.int8)
    scale = torch.rand(out, 1, generator=generator) + 0.01
    given_bias = torch.randn(out, generator=generator) if bias else None
    values = torch.randint(0, 256, (rows, width), generator=generator, dtype=torch.uint8)
    x = onednn.QuantizedActivations(values, 0.02, int(torch.randint(0, 256, (), generator=generator)))
    integers = (values.long() - x.zero_point) @ weight.long().t()
    want = integers.double() * x.scale * scale.flatten().double() + (given_bias.double() if bias else 0)
    return onednn.pack(weight, scale, given_bias), x, weight, want


def close(got, want, tolerance=1e-5):
    return torch.allclose(got.double(), want, rtol=tolerance, atol=tolerance * float(want.abs().max()))


@settings(max_examples=40, deadline=None)
@given(
    rows=SIZES,
    width=SIZES,
    out=SIZES,
    seed=st.integers(0, 99),
    bias=st.booleans(),
    filled_up=st.sampled_from(FILLED_UP),
)
def test_product_is_that_of_integers(rows, width, out, seed, bias, filled_up):
    packed, x, _, want = draw(rows, width, out, seed, bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn, "_FILLED_UP", filled_up)
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


@pytest.mark.parametrize("filled_up", FILLED_UP)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_is_added_in_place(dtype, filled_up, monkeypatch):
    monkeypatch.setattr(onednn, "_FILLED_UP", filled_up)
    packed, x, _, want = draw(9, 40, 50)
    total = torch.linspace(-50, 50, 9 * 50).view(9, 50).to(dtype)
    before = total.double()
    got = onednn.linear_add_(total, x, packed)
    assert got.data_ptr() == total.data_ptr()
    assert close(total, want + before, 1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("rows", [3, 2000])
@pytest.mark.parametrize("maker", [onednn._bytes_by_kernel, onednn._bytes_by_operators])
def test_two_parts_of_a_wide_input_leave_a_65000th_of_the_range(maker, rows, magnitude, offset, monkeypatch):
    onednn._quantizer()
    monkeypatch.setattr(onednn, "_quantizer", lambda: maker)
    x = (torch.randn(rows, 40, generator=torch.Generator().manual_seed(0)) + offset) * magnitude
    quantized = onednn.quantize_wide(x)
    parts = [part.values.double().sub(part.zero_point).mul(part.scale) for part in (quantized, quantized.rest)]
    extent = float(x.max().clamp(min=0) - x.min().clamp(max=0))
    assert (sum(parts) - x.double()).abs().max() <= extent / 65000
    assert (parts[0] - x.double()).abs().max() > extent / 2000


@pytest.mark.parametrize("filled_up", FILLED_UP)
def test_products_of_wide_inputs_are_those_of_both_parts(filled_up, monkeypatch):
    monkeypatch.setattr(onednn, "_FILLED_UP", filled_up)
    packed, _, weight, _ = draw(9, 40, 50, bias=True)
    x = torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    want = x.double() @ weight.double().mul(packed.scale.double()[:, None]).t() + packed.bias.double()
    wide = onednn.quantize_wide(x)
    assert close(onednn.linear(wide, packed), want, 1e-4)
    assert close(onednn.linear(wide, packed, relu=True), want.relu(), 1e-4)
    assert close(onednn.linear(wide, packed, dtype=torch.bfloat16), want, 1e-2)
    total = torch.linspace(-50, 50, 9 * 50).view(9, 50)
    before = total.double()
    assert onednn.linear_add_(total, wide, packed).data_ptr() == total.data_ptr()
    assert close(total, want + before, 1e-4)
    assert onednn.quantize_wide(torch.tensor([[1.0, math.nan]])) is None


def test_extremes_do_not_saturate():
    packed = onednn.pack(torch.full((16, 4096), 127, dtype=torch.int8), torch.ones(16))
    x = onednn.QuantizedActivations(torch.full((3, 4096), 255, dtype=torch.uint8), 1.0, 0)
    assert onednn.linear(x, packed).eq(255 * 127 * 4096).all()


@pytest.mark.parametrize("maker", [onednn._bytes_by_kernel, onednn._bytes_by_operators])
@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("magnitude", [1e-6, 1.0, 1e6])
def test_quantized_values_are_the_nearest_steps(maker, offset, magnitude, monkeypatch):
    onednn._quantizer()  # PyTorch's warning is spent there, once a process
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
    if not onednn_float.float_supported():
        pytest.skip("oneDNN does not run here")
    linear = torch.nn.Linear(48, 100)
    x = torch.randn(2, 7, 48)
    with torch.no_grad():
        assert torch.allclose(onednn_float.float_linear(x, linear.weight, linear.bias), linear(x), atol=1e-5)
        assert torch.allclose(onednn_float.float_linear(x, linear.weight, None), x @ linear.weight.t(), atol=1e-5)


def row_product(x, weight, scale, bias):
    """The product of rows that are rounded each by its own largest value, one row at a time."""
    rows = []
    for row in x.double():
        step = float(row.abs().max()) / 127 or 1.0
        total = (row / step).round().clamp(-128, 127) @ weight.t().double() * step * scale.flatten().double()
        rows.append(total + (bias.double() if bias is not None else 0))
    return torch.stack(rows)


@settings(max_examples=40, deadline=None)
@given(rows=SIZES, width=SIZES, out=SIZES, seed=st.integers(0, 99), bias=st.booleans(), exponent=st.integers(-6, 6))
def test_a_product_by_rows_is_that_of_each_row(rows, width, out, seed, bias, exponent):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(-127, 128, (out, width), generator=generator, dtype=torch.int8)
    scale = torch.rand(out, 1, generator=generator) + 0.01
    given_bias = torch.randn(out, generator=generator) if bias else None
    sizes = torch.logspace(-2, 2, rows)[:, None] * 10.0**exponent
    x = torch.randn(rows, width, generator=generator) * sizes
    quantized = onednn.quantize_rows(x)
    assert quantized.values.dtype == torch.uint8
    assert torch.allclose(quantized.scale, x.abs().amax(1, keepdim=True) / 127)
    back = (quantized.values.double() - 128) * quantized.scale.double()
    assert ((back - x.double()).abs() <= quantized.scale * 0.501).all()
    got = onednn.linear_rows(quantized, onednn.pack(weight, scale, given_bias))
    want = row_product(x, weight, scale, given_bias)
    # A value half way between two quantized values may fall either way: one unit of one input.
    allowed = 1e-5 * want.abs().amax(1, keepdim=True) + 127 * quantized.scale * scale.flatten() + 1e-12
    assert got.dtype == torch.float32
    assert ((got - want).abs() <= allowed).all()
    assert ((got - want).abs() <= 1e-5 * want.abs().max()).float().mean() > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.usefixtures("kernels")
def test_rows_of_any_dtype_and_shape(dtype):
    x = torch.randn(4, 3, 40, generator=torch.Generator().manual_seed(0)).to(dtype)
    quantized = onednn.quantize_rows(x)
    assert quantized.values.shape == (12, 40)
    assert quantized.scale.dtype == dtype
    back = (quantized.values.double() - 128) * quantized.scale.double()
    # In bfloat16 the largest value may be half a step beyond the last.
    assert ((back - x.reshape(12, 40).double()).abs() <= quantized.scale.double() * 1.01).all()
    weight = torch.randint(-127, 128, (8, 40), generator=torch.Generator().manual_seed(1), dtype=torch.int8)
    got = onednn.linear_rows(quantized, onednn.pack(weight, torch.ones(8)))
    assert got.dtype == (torch.bfloat16 if dtype == torch.bfloat16 else torch.float32)
    assert close(got, back @ weight.t().double(), 1e-2 if dtype == torch.bfloat16 else 1e-5)


@pytest.mark.usefixtures("kernels")
def test_a_row_of_zeros_gives_the_bias():
    packed, bias = (
        onednn.pack(torch.full((8, 40), 127, dtype=torch.int8), torch.ones(8), torch.arange(8.0)),
        torch.arange(8.0),
    )
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        quantized = onednn.quantize_rows(torch.zeros(3, 40, dtype=dtype))
        assert onednn.linear_rows(quantized, packed).float().equal(bias.expand(3, -1))


@pytest.mark.usefixtures("kernels")
def test_a_row_does_not_depend_on_the_others():
    packed = onednn.pack(torch.full((8, 40), 100, dtype=torch.int8), torch.ones(8))
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    alone = onednn.linear_rows(onednn.quantize_rows(x[2:3]), packed)
    x[0] *= 1000
    assert onednn.linear_rows(onednn.quantize_rows(x), packed)[2:3].equal(alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.usefixtures("kernels")
def test_rows_that_are_not_finite_are_refused(value, dtype):
    assert onednn.quantize_rows(torch.tensor([[1.0, 2.0], [0.0, value]], dtype=dtype)) is None


@pytest.mark.usefixtures("kernels")
def test_rows_as_large_as_numbers_come_are_not():
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.full((300, 4), torch.finfo(dtype).max, dtype=dtype)
        assert onednn.quantize_rows(x).values.eq(255).all()


@pytest.mark.usefixtures("kernels")
def test_a_rows_largest_magnitude_may_be_negative():
    x = torch.randn(40, 24, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    for rows in (x, -x, x.t()):
        assert onednn.quantize_rows(rows).scale.equal((rows.abs().amax(1, keepdim=True).float() / 127).to(x.dtype))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.skipif(not onednn_float.convolution_supported(), reason="PyTorch has no such kernel here")
def test_a_convolution_is_activated_in_the_same_pass(bias):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 11, 9, generator=generator).bfloat16()
    layer = torch.nn.Conv2d(4, 6, 3, 2, padding=1, bias=bias).bfloat16()
    with torch.inference_mode():
        found = onednn_float.convolve_gelu(x, layer.weight, layer.bias, layer.stride, layer.padding)
        want = torch.nn.functional.gelu(layer.float()(x.float()))
    assert found.dtype == torch.bfloat16
    assert close(found, want.double(), 1e-2)


@pytest.mark.parametrize("maker", [onednn._bytes_by_kernel, onednn._bytes_by_operators])
@pytest.mark.parametrize("zero_point", [0, 1, 100, 255])
@pytest.mark.parametrize("scale", [1e-4, 0.013, 10.0])
def test_a_known_range_is_kept_and_clips(maker, zero_point, scale, monkeypatch):
    monkeypatch.setattr(onednn, "_quantizer", lambda: maker)
    x = torch.linspace(-300, 300, 2 * 3 * 50).view(2, 3, 50) * scale
    quantized = onednn.quantize_by(x, scale, zero_point)
    assert (quantized.scale, quantized.zero_point) == (scale, zero_point)
    assert quantized.values.shape == (6, 50)
    back = (quantized.values.double() - zero_point) * quantized.scale
    inside = x.reshape(6, 50).double().clamp(-zero_point * scale, (255 - zero_point) * scale)
    assert ((back - inside).abs() <= scale * 0.501).all()


def test_a_known_range_takes_any_layout_and_dtype():
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    want = onednn.quantize_by(x, 0.02, 120).values
    assert torch.equal(onednn.quantize_by(x.t().contiguous().t(), 0.02, 120).values, want)
    assert torch.equal(onednn.quantize_by(x.double(), 0.02, 120).values, want)
    assert onednn.quantize_by(x.bfloat16(), 0.02, 120).values.dtype == torch.uint8
