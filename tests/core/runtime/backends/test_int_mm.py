"""int8 products as GPUs compute them: every function against a plain computation, and against oneDNN's."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import MULTIPLIED, linear, name_of, normal, rounded
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import int8_engine, int_mm, onednn
from sottovoce.runtime.backends.int8_engine import InputRange
from sottovoce.runtime.int8_linear import Int8Linear

BY_ROW, BY_TENSOR, STATIC = MULTIPLIED
EACH = pytest.mark.parametrize("scheme", MULTIPLIED, ids=name_of)
RANGE = InputRange(0.05, -20)
SCALE, ZERO_POINT = torch.tensor([RANGE.scale]), torch.tensor([RANGE.zero_point], dtype=torch.int8)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def integers(low: int, high: int, *sizes: int, seed: int = 0) -> Tensor:
    return torch.randint(low, high + 1, sizes, generator=torch.Generator().manual_seed(seed))


def quantized(x: Tensor, scheme: Scheme) -> int_mm.QuantizedActivations:
    if scheme is STATIC:
        return int_mm.quantize_by(x, SCALE, ZERO_POINT)
    return int_mm.quantize_rows(x) if scheme is BY_ROW else int_mm.quantize(x)


def values(x: int_mm.QuantizedActivations) -> Tensor:
    return (x.values.double() - (0 if x.zero_point is None else x.zero_point)) * x.scale.double()


def kernel(layer: Int8Linear) -> int8_engine.Kernel:
    static = layer.scheme.activations == "static"
    weight = int_mm.prepare(
        layer.weight, layer.weight_scale, layer.bias, has_zero_point=static or layer.scheme.strategy == "tensor"
    )
    return int8_engine.gpu_kernel(weight, layer.scheme, (SCALE, ZERO_POINT) if static else None)


def make(scheme: Scheme, bias: bool = True) -> Int8Linear:
    layer = linear(bias=bias)
    return Int8Linear.from_quantized(layer, *rounded(layer, scheme), RANGE if scheme is STATIC else None)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 70),
    width=st.integers(1, 12),
    out=st.integers(1, 12),
    bias=st.booleans(),
    zero_point=st.none() | st.integers(-128, 127),
    seed=st.integers(0, 50),
)
def test_the_product_is_that_of_the_integers(
    rows: int, width: int, out: int, bias: bool, zero_point: int | None, seed: int
) -> None:
    x = integers(-128, 127, rows, 8 * width, seed=seed).to(torch.int8)
    weight = integers(-127, 127, 8 * out, 8 * width, seed=seed + 1).to(torch.int8)
    scale, factors = normal(rows, 1, seed=seed).abs(), normal(8 * out, 1, seed=seed + 2)
    added = normal(8 * out, seed=seed + 3) if bias else None
    zero = None if zero_point is None else torch.tensor([zero_point], dtype=torch.int32)
    prepared = int_mm.prepare(weight, factors, added, has_zero_point=zero is not None)
    found = int_mm.linear(int_mm.QuantizedActivations(x, scale, zero), prepared)
    want = ((x.long() - (zero_point or 0)) @ weight.long().t()) * scale.double() * factors.double().t()
    want = want if added is None else want + added
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), want, rtol=1e-5, atol=1e-5 * float(want.abs().max()))


def test_sums_do_not_overflow_where_all_values_are_extreme() -> None:
    width = 8 * 5000
    x = int_mm.QuantizedActivations(
        torch.full((2, width), 127, dtype=torch.int8), torch.ones(2, 1), torch.tensor([-128]).int()
    )
    weight = int_mm.prepare(torch.full((8, width), 127, dtype=torch.int8), torch.ones(8), has_zero_point=True)
    assert int_mm.linear(x, weight).eq(255 * 127 * width).all()


@EACH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_inputs_are_rounded_to_the_nearest_step(scheme: Scheme, dtype: torch.dtype, shift: float) -> None:
    x = (normal(2, 5, 64) + shift).to(dtype)
    found = quantized(x, scheme)
    assert found.values.shape == (10, 64)
    assert found.values.dtype == torch.int8
    assert found.scale.dtype == torch.float32
    low, high = (
        values(int_mm.QuantizedActivations(torch.full((10, 64), end), found.scale, found.zero_point))
        for end in (-128, 127)
    )
    want = x.view(10, 64).double().clamp(low, high)
    # Scales are rounded to the dtype of the inputs, so the largest may lie a little further from its step.
    nearest = 0.501 if dtype == torch.float32 else 1.0
    assert ((values(found) - want).abs() <= nearest * found.scale).all()


@pytest.mark.skipif(not onednn.supported(), reason="oneDNN does not run here")
class TestAgainstOneDnn:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shift", [-3.0, 0.0, 0.3, 3.0])
    def test_the_integers_are_the_same(self, dtype: torch.dtype, shift: float) -> None:
        x = ((normal(50, 64) + shift) * torch.logspace(-2, 2, 50)[:, None]).to(dtype)
        by_row, by_tensor = onednn.quantize_rows(x), onednn.quantize(x)
        assert by_row is not None
        assert by_tensor is not None
        found = int_mm.quantize(x)
        assert found.zero_point is not None
        assert found.zero_point.item() + 128 == by_tensor.zero_point
        assert (found.values.int() + 128).equal(by_tensor.values.int())
        assert (int_mm.quantize_rows(x).values.int() + 128).equal(by_row.values.int())
        by_range = onednn.quantize_by(x, SCALE.item(), RANGE.zero_point + 128)
        assert (int_mm.quantize_by(x, SCALE, ZERO_POINT).values.int() + 128).equal(by_range.values.int())

    @EACH
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("shape", [(64,), (1, 64), (40, 64), (2, 3, 64)])
    def test_the_layer_gives_the_same(
        self, scheme: Scheme, bias: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "onednn")
        layer, x = make(scheme, bias), normal(*shape) + 0.5
        with torch.no_grad():
            found, want = kernel(layer)(x), layer(x)
        assert found.shape == want.shape
        assert torch.allclose(found, want, rtol=1e-5, atol=1e-5)


@EACH
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_not_finite_are_not_hidden(scheme: Scheme, value: float, dtype: torch.dtype) -> None:
    x = normal(5, 64)
    x[1, 2], x[3, 4], x[3, 5] = value, math.inf, -math.inf
    with torch.no_grad():
        found, want = kernel(make(scheme))(x.to(dtype)), linear()(x)
    assert not found[[1, 3]].isfinite().any()
    # What the others give does not depend on them.
    assert (found - want)[[0, 2, 4]].norm() < 3e-2 * want[[0, 2, 4]].norm()


@EACH
@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_give_the_bias(scheme: Scheme, dtype: torch.dtype) -> None:
    layer = make(scheme)
    assert layer.bias is not None
    with torch.no_grad():
        assert torch.allclose(kernel(layer)(torch.zeros(3, 64, dtype=dtype)), layer.bias.expand(3, -1), atol=1e-6)


@EACH
def test_rows_that_do_not_lie_together(scheme: Scheme) -> None:
    wide, product = normal(10, 128)[:, ::2], kernel(make(scheme))
    with torch.no_grad():
        assert product(wide).equal(product(wide.contiguous()))


@pytest.mark.parametrize(("sizes", "taken"), [((8, 16), True), ((12, 16), False), ((8, 15), False), ((0, 8), False)])
def test_sizes_that_the_kernel_takes(sizes: tuple[int, int], taken: bool) -> None:
    assert int_mm.takes(torch.empty(sizes)) is taken


class TestSupported:
    def test_here(self) -> None:
        assert int_mm.supported.__wrapped__(torch.device("cpu"))

    @pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, AttributeError])
    def test_a_kernel_that_is_not_there(self, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Tensor) -> Tensor:
            raise error

        monkeypatch.setattr(torch, "_int_mm", fail)
        assert not int_mm.supported.__wrapped__(torch.device("cpu"))

    def test_a_kernel_that_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "_int_mm", lambda x, weight: (x.int() @ weight.int()).clamp(-(2**15), 2**15 - 1))
        assert not int_mm.supported.__wrapped__(torch.device("cpu"))


def test_every_gpu_is_named_with_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert int8_engine.gpu_engines().keys() == {
        f"cuda:{number} {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())
    }
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    monkeypatch.setattr(int_mm, "supported", lambda device: device.index == 0)
    assert int8_engine.gpu_engines() == {"cuda:0 GPU 0": "int_mm", "cuda:1 GPU 1": "float"}
