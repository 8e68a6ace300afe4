"""Rules of TensorRT's parser: every one of them has a graph that breaks it, and one that does not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sottovoce.errors import OutputError
from sottovoce.formats.tensorrt import Profile, build_engine, is_installed, require_allowed, trtexec, violations


def write(path: Path, nodes: list[Any], weights: dict[str, Any] | None = None, opset: int = 17) -> Path:
    """A graph from ``x [n, 4]`` to ``y``."""
    value = helper.make_tensor_value_info
    arrays = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    x, y = value("x", TensorProto.FLOAT, ["n", 4]), onnx.ValueInfoProto(name="y")
    graph = helper.make_graph(nodes, "g", [x], [y], arrays)
    onnx.save(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        ),
        path,
    )
    return path


node = helper.make_node
ONE = {"one": np.float32(1)}
BROKEN: dict[str, tuple[list[Any], dict[str, Any], int, str]] = {
    "opset": ([node("Relu", ["x"], ["y"])], {}, 21, "opset 21 is newer than 20"),
    "operator": ([node("NonZero", ["x"], ["y"], "find")], {}, 17, r"it has no operator NonZero \(find\)"),
    "domain": ([node("Gelu", ["x"], ["y"], "g", domain="com.microsoft")], {}, 17, "not of ONNX but of com.microsoft"),
    "double": (
        [node("Cast", ["x"], ["d"], "c", to=TensorProto.DOUBLE), node("Cast", ["d"], ["y"], to=TensorProto.FLOAT)],
        {},
        17,
        "d is float64",
    ),
    "whole numbers": (
        [
            node("Cast", ["x"], ["i"], "c", to=TensorProto.INT64),
            node("CumSum", ["i", "axis"], ["s"], "sum"),
            node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
        ],
        {"axis": np.int64(0)},
        17,
        r"CumSum takes floats alone \(sum\)",
    ),
    "shape": (
        [
            node("ReduceMax", ["x"], ["m"], keepdims=0),
            node("Cast", ["m"], ["i"], to=TensorProto.INT64),
            node("Range", ["zero", "i", "step"], ["y"], "positions"),
        ],
        {"zero": np.int64(0), "step": np.int64(1)},
        17,
        r"the shape of Range's output depends on data \(positions\)",
    ),
    "constant": (
        [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("TopK", ["x", "i"], ["y", "places"], "best")],
        {},
        17,
        r"input 1 of TopK has to be a constant \(best\)",
    ),
    "zero point": (
        [node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"), node("DequantizeLinear", ["q", "s", "z"], ["y"], "d")],
        {"s": np.float32(0.1), "z": np.int8(3)},
        17,
        "the zero point of QuantizeLinear has to be zero",
    ),
}


@pytest.mark.parametrize(("nodes", "weights", "opset", "words"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_a_rule_is_named(
    tmp_path: Path, nodes: list[Any], weights: dict[str, Any], opset: int, words: str
) -> None:
    path = write(tmp_path / "x.onnx", nodes, weights, opset)
    with pytest.raises(OutputError, match=words) as caught:
        require_allowed(path)
    assert str(caught.value).startswith("x.onnx: TensorRT does not take it: ")
    assert "\n" not in str(caught.value)


def test_shapes_of_shapes_are_allowed(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Range", ["zero", "n", "step"], ["p"]),
        node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["f", "axis"], ["c"]),
        node("Add", ["x", "c"], ["y"]),
    ]
    weights = {"zero": np.int64(0), "step": np.int64(1), "axis": np.array([1])}
    assert violations(write(tmp_path / "x.onnx", nodes, weights)) == []


def test_symmetric_quantization_is_allowed(tmp_path: Path) -> None:
    nodes, weights, _, _ = BROKEN["zero point"]
    assert violations(write(tmp_path / "x.onnx", nodes, {**weights, "z": np.int8(0)})) == []


def test_file_that_is_no_graph_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(OutputError, match=r"^x\.onnx: is not an ONNX graph"):
        violations(tmp_path / "x.onnx")


def test_command_has_all_shapes() -> None:
    profiles = {"a": Profile((1, 4), (1, 8), (2, 16)), "n": Profile((1,), (1,), (2,))}
    assert trtexec("m.onnx", "m.plan", profiles) == (
        "trtexec --onnx=m.onnx --saveEngine=m.plan --minShapes=a:1x4,n:1 --optShapes=a:1x8,n:1 --maxShapes=a:2x16,n:2"
    )


@pytest.mark.skipif(is_installed(), reason="TensorRT is installed")
def test_engine_without_tensorrt_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="pip install tensorrt"):
        build_engine(tmp_path / "m.onnx", tmp_path / "m.plan", {})


@pytest.mark.parametrize("plan", [b"engine", None])
def test_engine_is_built_by_tensorrts_own_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: bytes | None
) -> None:
    """Only the calls: TensorRT needs a GPU."""
    shapes: dict[str, Any] = {}
    profile = SimpleNamespace(set_shape=lambda name, *sizes: shapes.update({name: sizes}))
    builder = SimpleNamespace(
        create_network=lambda flags: "network",
        create_builder_config=lambda: SimpleNamespace(add_optimization_profile=lambda profile: None),
        create_optimization_profile=lambda: profile,
        build_serialized_network=lambda network, config: plan,
    )
    logger: Any = lambda severity: severity  # noqa: E731
    logger.ERROR = 1
    fake = SimpleNamespace(
        Logger=logger,
        Builder=lambda logger: builder,
        OnnxParser=lambda network, logger: SimpleNamespace(parse_from_file=lambda path: True),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    arguments = tmp_path / "m.onnx", tmp_path / "m.plan", {"x": Profile((1,), (2,), (3,))}
    if plan is None:
        with pytest.raises(OutputError, match="builds no engine"):
            build_engine(*arguments)
        return
    build_engine(*arguments)
    assert (tmp_path / "m.plan").read_bytes() == b"engine"
    assert shapes == {"x": ((1,), (2,), (3,))}
