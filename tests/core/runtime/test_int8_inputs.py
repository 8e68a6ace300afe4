"""How the W8A8 layer rounds its inputs: by rows, by the tensor, and by a range that was calibrated."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.drawn import MULTIPLIED, linear, name_of, normal, rounded
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import instructions, int8_engine, onednn
from sottovoce.runtime.backends.int8_kernels import InputRange
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.layers import empty

BY_ROW, BY_TENSOR, STATIC = MULTIPLIED
EACH = pytest.mark.parametrize("scheme", MULTIPLIED, ids=name_of)
RANGE = InputRange(0.05, -20)


@pytest.fixture(params=[name for name, works in int8_engine._ENGINES.items() if works()])
def each_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn.supported():
        pytest.skip("oneDNN does not run here")
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "onednn")


def make(scheme: Scheme, bias: bool = True, inputs: InputRange = RANGE) -> Int8Linear:
    layer = linear(bias=bias)
    return Int8Linear.from_quantized(layer, *rounded(layer, scheme), inputs if scheme is STATIC else None)


def rounded_inputs(x: Tensor, scheme: Scheme) -> Tensor:
    """Inputs ``[rows, in]`` as the scheme rounds them, by definition."""
    x = x.double()
    if scheme is BY_ROW:
        step = x.abs().amax(1, keepdim=True) / 127
        return (x / step).round() * step
    if scheme is BY_TENSOR:
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        scale, lowest = (high - low) / 255, -128
        zero = round(lowest - low / scale)
    else:
        scale, zero = torch.tensor(RANGE.scale).item(), RANGE.zero_point
    return (((x / scale).round() + zero).clamp(-128, 127) - zero) * scale


@EACH
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.usefixtures("kernels")
def test_the_product_is_that_of_the_rounded_inputs(scheme: Scheme, bias: bool, by_onednn: None) -> None:
    layer, x = make(scheme, bias), normal(20, 64) * torch.logspace(-1, 1, 20)[:, None]
    with torch.no_grad():
        want = nn.functional.linear(
            rounded_inputs(x, scheme),
            layer.dequantize().weight.double(),
            None if layer.bias is None else layer.bias.double(),
        )
        found = layer(x)
    # A value half way between two quantized values may fall either way.
    assert float(((found - want).abs() <= 1e-4).double().mean()) > 0.97


@EACH
def test_every_engine_is_near_the_float_layer(scheme: Scheme, each_engine: str) -> None:
    layer, x = make(scheme), normal(20, 64)
    with torch.no_grad():
        found, want = layer(x), linear()(x)
    assert (found - want).norm() < 2e-2 * want.norm()


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64,), (2, 3, 64), (0, 64)])
def test_any_dtype_and_shape(scheme: Scheme, dtype: torch.dtype, shape: tuple[int, ...], each_engine: str) -> None:
    x = normal(*shape).to(dtype)
    with torch.no_grad():
        found, want = make(scheme)(x), linear()(x.float())
    assert found.dtype == dtype
    assert found.shape == (*shape[:-1], 48)
    assert (found.float() - want).norm() <= 4e-2 * want.norm()


def test_by_rows_a_row_does_not_depend_on_the_others(by_onednn: None) -> None:
    layer, x = make(BY_ROW), normal(5, 64)
    with torch.no_grad():
        alone = layer(x[2:3])
        x[0] *= 1000
        assert layer(x)[2:3].equal(alone)
        assert not make(BY_TENSOR)(x)[2:3].equal(make(BY_TENSOR)(x[2:3]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("vnni", [True, False])
def test_by_rows_pytorchs_product_rounds_between_the_least_and_the_largest_value(
    vnni: bool, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if vnni and not instructions.vnni() or not int8_engine._ENGINES["linear_dynamic"]():
        pytest.skip("it does not run here")
    monkeypatch.setattr(instructions, "vnni", lambda: vnni)
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", "linear_dynamic")
    layer, x = make(BY_ROW, bias), (normal(20, 64) + 3) * torch.logspace(-1, 1, 20)[:, None]
    low, high = x.double().aminmax(dim=1, keepdim=True)
    step = (high - low) / (255 if vnni else 127)
    plain = layer.dequantize().double()
    with torch.no_grad():
        difference = layer(x) - plain(((x - low) / step).round() * step + low)
        allowed = 1e-4 * plain(x.double()).abs().amax()
    # A value half way between two quantized values may fall either way.
    assert float((difference.abs() <= allowed).double().mean()) > 0.97


def test_a_calibrated_range_clips_what_lies_outside(by_onednn: None) -> None:
    layer = make(STATIC)
    top = (127 - RANGE.zero_point) * RANGE.scale
    with torch.no_grad():
        found = layer(torch.full((1, 64), 100 * top))
        want = layer.dequantize()(torch.full((1, 64), top))
    assert torch.allclose(found, want, atol=1e-4)


@pytest.mark.parametrize(
    ("engine", "scheme"),
    [
        ("onednn", BY_ROW),
        ("onednn", BY_TENSOR),
        ("float", BY_ROW),
        ("float", BY_TENSOR),
        ("float", STATIC),
        ("onednn", STATIC),
        *(("linear_dynamic", scheme) for scheme in MULTIPLIED),
    ],
    ids=str,
)
@pytest.mark.usefixtures("kernels")
def test_values_that_are_not_finite_are_not_hidden(
    engine: str, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not int8_engine._ENGINES[engine]():
        pytest.skip(f"{engine} does not run here")
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", engine)
    for value in (math.nan, math.inf):
        x = normal(3, 64)
        x[1, 2] = value
        with torch.no_grad():
            found = make(scheme)(x)
        assert not found[1].isfinite().all()
        assert found[0].isfinite().all()


@pytest.mark.parametrize(
    ("engine", "scheme"),
    [
        ("onednn", BY_ROW),
        ("float", BY_ROW),
        ("linear_dynamic", BY_ROW),
    ],
    ids=str,
)
def test_a_row_that_stands_out_costs_the_others_nothing(
    engine: str, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not int8_engine._ENGINES[engine]():
        pytest.skip(f"{engine} does not run here")
    monkeypatch.setenv("SOTTOVOCE_INT8_ENGINE", engine)
    x = normal(20, 64)
    x[0] *= 100
    with torch.no_grad():
        found, want = make(scheme)(x)[1:], linear()(x)[1:]
    assert (found - want).norm() < 2e-2 * want.norm()


@EACH
def test_zeros_give_the_bias(scheme: Scheme, each_engine: str) -> None:
    layer = make(scheme)
    assert layer.bias is not None
    with torch.no_grad():
        assert torch.allclose(layer(torch.zeros(3, 64)), layer.bias.expand(3, -1), atol=1e-5)


@EACH
@pytest.mark.parametrize("packed", [True, False])
def test_files_round_trip(scheme: Scheme, packed: bool, each_engine: str, tmp_path: Path) -> None:
    layer, x = make(scheme), normal(3, 64)
    if packed:
        layer.pack_()
    save_file(
        {name: tensor.contiguous() for name, tensor in layer.state_dict().items()}, tmp_path / "layer.safetensors"
    )
    made = empty(linear(), scheme)
    assert made is not None
    names = {"weight", "weight_scale", "bias"} | ({"input_scale", "input_zero_point"} if scheme is STATIC else set())
    assert set(made.state_dict()) == set(layer.state_dict()) == names
    made.load_state_dict(load_file(tmp_path / "layer.safetensors"), strict=True, assign=True)
    assert isinstance(made, Int8Linear)
    assert made.input_range == layer.input_range
    with torch.no_grad():
        assert made(x).equal(layer(x))


def test_the_range_is_what_was_calibrated() -> None:
    assert make(BY_ROW).input_range is None
    found = make(STATIC).input_range
    assert found is not None
    assert found == (pytest.approx(0.05), -20)
    assert make(STATIC, inputs=InputRange(1e-30, 127)).input_range == (pytest.approx(1e-30), 127)


@EACH
def test_copies_and_other_dtypes_keep_the_arithmetic(scheme: Scheme, by_onednn: None) -> None:
    layer, x = make(scheme), normal(3, 64)
    with torch.no_grad():
        want = layer(x)
        assert copy.deepcopy(layer)(x).equal(want)
        halved = copy.deepcopy(layer).to(torch.bfloat16)
        assert halved(x.bfloat16()).dtype == torch.bfloat16
        assert torch.allclose(halved(x), want, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halving_leaves_the_calibrated_range_as_it_is(dtype: torch.dtype) -> None:
    layer = make(STATIC)
    before = layer.input_range
    assert layer.to(dtype).input_range == before


@EACH
def test_the_shape_of_outputs_is_known_without_data(scheme: Scheme) -> None:
    layer = make(scheme).to("meta")
    assert all(tensor.is_meta for tensor in layer.state_dict().values())
    assert layer(torch.empty(3, 64, device="meta")).shape == (3, 48)
