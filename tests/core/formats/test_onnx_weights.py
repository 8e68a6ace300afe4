"""A graph carries the model's quantized values: what lies in the file stands for exactly the model's floats."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from sottovoce.errors import OutputError
from sottovoce.formats.onnx_weights import carry_weights
from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import instructions
from sottovoce.runtime.backends.int8_kernels import InputRange
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams

BY_TENSOR = Scheme(bits=8, activations="dynamic", strategy="tensor")
BY_ROW = Scheme(bits=8, activations="dynamic")
STATIC = Scheme(bits=8, activations="static")
RANGE = InputRange(0.05, -7)
# Without VNNI, sums of two products of 8 bits saturate in onnxruntime.
EXACT = 2e-5 if instructions.vnni() else 1.0


def quantized(scheme: Scheme, width: int, rows: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    linear = nn.Linear(width, rows)
    weight = linear.weight.detach()
    qparams = compute_qparams(weight, scheme)
    if scheme.activations == "static":
        return from_quantized(linear, qparams.quantize(weight), qparams, RANGE)
    return from_quantized(linear, qparams.quantize(weight), qparams)


def float_weight(layer: Any) -> Any:
    return layer.dequantize().weight.detach().numpy()


def product(layer: nn.Module, kind: str) -> onnx.ModelProto:
    """A graph of one product as tracers write it: ``y = x W^T + b``."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    weight, bias = float_weight(layer), layer.bias.detach().numpy()  # type: ignore[operator, union-attr]
    weights = [
        array(np.ascontiguousarray(weight if kind in ("Gemm", "Transpose") else weight.T), "w"),
        array(bias, "b"),
    ]
    nodes = {
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["p"], "p"), helper.make_node("Add", ["p", "b"], ["y"], "y")],
        "Transpose": [
            helper.make_node("Transpose", ["w"], ["t"], "t", perm=[1, 0]),
            helper.make_node("MatMul", ["x", "t"], ["p"], "p"),
            helper.make_node("Add", ["p", "b"], ["y"], "y"),
        ],
        "Gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "y", transB=1)],
    }[kind]
    rows, width = weight.shape
    value = helper.make_tensor_value_info
    x = value("x", onnx.TensorProto.FLOAT, ["n", width])
    graph = helper.make_graph(nodes, "g", [x], [value("y", onnx.TensorProto.FLOAT, ["n", rows])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def carried(folder: Path, layer: nn.Module, kind: str = "MatMul", **options: Any) -> Path:
    onnx.save(product(layer, kind), folder / "float.onnx")
    assert carry_weights(folder / "float.onnx", folder / "q.onnx", QuantizedWeights(layer), **options) == ("",)
    return folder / "q.onnx"


def run(path: Path, x: Any) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def stored_weight(path: Path) -> Any:
    """The float weight ``[out, in]`` by the specification of the operators, value by value where they are packed."""
    graph = onnx.load(path).graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        given_ = [arrays.get(name) for name in node.input]
        if node.op_type == "MatMulNBits":
            return dequantized_blocks(node, *given_[1:])
        if node.op_type == "MatMulInteger":
            return (given_[1].astype(np.float32) * arrays[".scale"]).T
        if node.op_type == "DequantizeLinear" and given_[0] is not None:
            return (given_[0].astype(np.float32) * given_[1]).T
        if node.op_type == "Cast" and given_[0] is not None:
            points = arrays.get(".zero_point", np.float32(0))
            groups = (given_[0].astype(np.float32) - points) * arrays[".scale"]
            return groups.reshape(-1, groups.shape[-1]).T
    raise AssertionError("no weight was carried")


def dequantized_blocks(node: Any, values: Any, scales: Any, points: Any = None) -> Any:
    size = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    bits, block = size["bits"], size["block_size"]
    weight = np.empty((size["N"], size["K"]), np.float32)
    for row, column in np.ndindex(*weight.shape):
        number, within = divmod(column, block)
        point = 1 << (bits - 1) if points is None else element(points[row], number, bits)
        stored = element(values[row, number], within, bits)
        weight[row, column] = np.float32(stored - point) * scales[row, number]
    return weight


def element(packed: Any, place: int, bits: int) -> int:
    if bits == 8:
        return int(packed[place])
    return int(packed[place // 2]) >> 4 * (place % 2) & 15


@st.composite
def schemes(draw: st.DrawFn) -> tuple[Scheme, int]:
    """A scheme, and a width that it fits."""
    if draw(st.booleans()):
        return draw(st.sampled_from([BY_TENSOR, BY_ROW, STATIC])), draw(st.integers(1, 90))
    bits, symmetric = draw(st.sampled_from([2, 3, 4, 8])), draw(st.booleans())
    group = draw(st.sampled_from([8, 16, 24, 32, 48, 64, None]))
    width = draw(st.integers(1, 90)) if group is None else group * draw(st.integers(1, 4))
    return Scheme(bits=bits, group_size=group, symmetric=symmetric), width


@settings(deadline=None, max_examples=60)
@example((Scheme(bits=4, group_size=24, symmetric=False), 48), 5, "MatMul", 0)
@example((Scheme(bits=8, group_size=8), 40), 5, "Transpose", 0)
@example((Scheme(bits=4, group_size=48, symmetric=False), 144), 3, "Gemm", 0)
@example((Scheme(bits=4, symmetric=False), 37), 3, "MatMul", 0)
@example((Scheme(bits=2, group_size=32, symmetric=False), 96), 3, "MatMul", 0)
@example((Scheme(bits=3, group_size=24), 48), 3, "MatMul", 0)
@example((Scheme(bits=8, symmetric=False), 37), 3, "MatMul", 0)
@example((STATIC, 33), 4, "Gemm", 0)
@given(schemes(), st.integers(1, 20), st.sampled_from(["MatMul", "Transpose", "Gemm"]), st.integers(0, 9))
def test_the_file_stands_for_the_models_floats_bit_by_bit(
    chosen: tuple[Scheme, int], rows: int, kind: str, seed: int
) -> None:
    scheme, width = chosen
    layer = quantized(scheme, width, rows, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = carried(Path(folder), layer, kind, accuracy_level=1)
        onnx.checker.check_model(str(path))
        np.testing.assert_array_equal(stored_weight(path), float_weight(layer))
        x = np.random.default_rng(seed).normal(0, 1, (5, width)).astype(np.float32)
        want = layer(torch.from_numpy(x)).detach().numpy()
        got = run(path, x)
    errors = np.abs(got - want)
    if scheme == BY_ROW:  # quantized in torch, and float at this level: half a step of each input
        assert errors.max() < 0.05
    elif scheme.activations == "none":
        np.testing.assert_allclose(got, want, atol=2e-5, rtol=2e-5)
    else:  # an input in the middle between two steps may be rounded to either
        assert np.median(errors) < EXACT
        assert errors.max() < max(0.03, EXACT)


def test_calibrated_range_is_the_models(tmp_path: Path) -> None:
    path = carried(tmp_path, quantized(STATIC, 32, 8))
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}
    assert arrays[".input_scale"] == np.float32(RANGE.scale)
    assert arrays[".input_zero_point"].dtype == np.uint8
    assert arrays[".input_zero_point"] == RANGE.zero_point + 128


ROUNDED = [Scheme(bits=4, group_size=32), Scheme(bits=4, group_size=16, symmetric=False), BY_ROW]


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize(("scheme", "width"), [*((scheme, 96) for scheme in ROUNDED), (Scheme(bits=4), 37)], ids=str)
def test_inputs_in_8_bits_cost_little(tmp_path: Path, scheme: Scheme, width: int, rows: int) -> None:
    layer = quantized(scheme, width, 24)
    x = np.random.default_rng(0).normal(0, 1, (rows, width)).astype(np.float32)
    path = carried(tmp_path, layer)
    (level,) = [
        item.i for node in onnx.load(path).graph.node for item in node.attribute if item.name == "accuracy_level"
    ]
    assert level == 4
    got, want = run(path, x), layer.dequantize()(torch.from_numpy(x)).detach().numpy()  # type: ignore[operator]
    assert np.abs(got - want).mean() < 0.01


@pytest.fixture
def table() -> Iterator[Int8Embedding]:
    torch.manual_seed(0)
    yield Int8Embedding.from_float(nn.Embedding(30, 24))


def test_a_table_is_looked_up_in_int8_and_multiplied_by(tmp_path: Path, table: Int8Embedding) -> None:
    weight = float_weight(table)
    helper = onnx.helper
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Gather", ["w", "x"], ["e"], "look up"),
        helper.make_node("Transpose", ["w"], ["t"], "t", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "t"], ["y"], "multiply"),
    ]
    inputs, outputs = [value("x", onnx.TensorProto.INT64, ["n"])], [value("y", onnx.TensorProto.FLOAT, ["n", 30])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [onnx.numpy_helper.from_array(weight, "w")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "float.onnx"
    )
    path = tmp_path / "q.onnx"
    names = carry_weights(tmp_path / "float.onnx", path, QuantizedWeights(nn.ModuleDict({"t": table})), 1)
    assert names == ("t",)
    kinds = [
        item.data_type for item in onnx.load(path).graph.initializer if item.dims[:1] == [30] and len(item.dims) > 1
    ]
    assert onnx.TensorProto.INT8 in kinds
    ids = np.array([3, 0, 29])
    np.testing.assert_allclose(run(path, ids), weight[ids] @ weight.T, atol=1e-4)


def test_other_layers_stay_as_they_are(tmp_path: Path) -> None:
    known, other = quantized(BY_TENSOR, 32, 8), quantized(BY_TENSOR, 32, 8, seed=1)
    onnx.save(product(other, "MatMul"), tmp_path / "float.onnx")
    assert carry_weights(tmp_path / "float.onnx", tmp_path / "q.onnx", QuantizedWeights(known)) == ()
    x = np.ones((2, 32), np.float32)
    np.testing.assert_array_equal(run(tmp_path / "q.onnx", x), run(tmp_path / "float.onnx", x))


def test_many_weights_lie_in_a_file_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.formats.onnx_graph._LARGEST", 1000)
    layer = quantized(Scheme(bits=8), 96, 24)
    x = np.ones((2, 96), np.float32)
    for _ in range(2):  # the second replaces the first
        path = carried(tmp_path, layer)
        assert (tmp_path / "q.onnx.data").stat().st_size in range(24 * 96, 24 * 96 + 2000)
        assert path.stat().st_size < 2000
    np.testing.assert_allclose(run(path, x), layer(torch.from_numpy(x)).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("content", "words"), [(b"\xff" * 99, "is not an ONNX graph"), (None, "opset 12 is too old for quantized weights")]
)
def test_graph_that_cannot_be_rewritten_is_an_error_of_one_line(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    model = product(quantized(BY_TENSOR, 32, 8), "MatMul")
    model.opset_import[0].version = 12
    (tmp_path / "float.onnx").write_bytes(content or model.SerializeToString())
    with pytest.raises(OutputError, match=words) as caught:
        carry_weights(tmp_path / "float.onnx", tmp_path / "q.onnx", QuantizedWeights(nn.Linear(2, 2)))
    assert str(caught.value).startswith("float.onnx: ") and "\n" not in str(caught.value)
    assert not (tmp_path / "q.onnx").exists()


def test_inputs_that_several_layers_read_are_quantized_once(tmp_path: Path) -> None:
    layers = nn.ModuleList(quantized(BY_TENSOR, 32, 8, seed) for seed in range(2))
    helper, value = onnx.helper, onnx.helper.make_tensor_value_info
    weights = [onnx.numpy_helper.from_array(float_weight(layer).T.copy(), f"w{n}") for n, layer in enumerate(layers)]
    nodes = [helper.make_node("MatMul", ["x", f"w{n}"], [f"y{n}"], f"p{n}") for n in range(2)]
    outputs = [value(f"y{n}", onnx.TensorProto.FLOAT, ["n", 8]) for n in range(2)]
    graph = helper.make_graph(nodes, "g", [value("x", onnx.TensorProto.FLOAT, ["n", 32])], outputs, weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "float.onnx"
    )
    assert len(carry_weights(tmp_path / "float.onnx", tmp_path / "q.onnx", QuantizedWeights(layers))) == 2
    kinds = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert kinds.count("DynamicQuantizeLinear") == 1
    assert kinds.count("MatMulInteger") == 2
