"""TensorRT: what its parser asks of an ONNX graph, as rules; the command that builds an engine, and building one.

The rules are those of ``docs/operators.md`` of onnx-tensorrt. They need no GPU and no TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sottovoce.errors import OutputError, reason
from sottovoce.formats.onnx import require

NEWEST_OPSET = 20
"""Newest operator set that a graph may ask for."""
_WORDS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal
Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool
GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity If
InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
LpNormalization LpPool MatMul Max MaxPool Mean Min Mod Mul Neg Not OneHot Or PRelu Pad Pow QuantizeLinear RNN Range
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize Round Scan ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice
Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu
Unsqueeze Where Xor
"""
_OPERATORS = frozenset(_WORDS.split())
"""Operators that the parser has; those whose output's shape depends on data are left out."""
_SHAPES: Mapping[str, tuple[int, ...]] = {
    **{"ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Reshape": (1,)},
    **{"Resize": (2, 3), "Slice": (1, 2, 4), "Split": (1,), "Tile": (1,)},
}
"""Inputs that decide a shape, by operator."""
_CONSTANTS: Mapping[str, tuple[int, ...]] = {
    **{"CumSum": (1,), "Slice": (3,), "Squeeze": (1,), "TopK": (1,), "Unsqueeze": (1,)},
    **{name: (1,) for name in _OPERATORS if name.startswith("Reduce")},
}
"""Inputs that have to be constants, by operator."""
_FLOATS = ("Clip", "CumSum")
"""Operators that it has for floats alone."""


@dataclass(frozen=True)
class _Graph:
    """A graph with what the rules ask of it."""

    model: Any
    types: Mapping[str, int]
    """Element types by name, as far as they can be inferred."""
    constants: frozenset[str]
    """Names of initializers, constants, and what is computed of these alone."""
    shapes: frozenset[str]
    """Names of what is computed of constants and of shapes alone."""

    @property
    def nodes(self) -> Any:
        """Nodes of the main graph."""
        return self.model.graph.node


Rule = Callable[[_Graph], Iterator[str]]


def violations(path: Path) -> list[str]:
    """Return a sentence for each thing in a graph that TensorRT does not take; none for a graph that it does.

    Raises:
        OutputError: ONNX is not installed, or the file is not a graph.
    """
    graph = _read(path)
    return [sentence for rule in RULES for sentence in rule(graph)]


def require_allowed(path: Path) -> None:
    """Check a graph by all rules.

    Raises:
        OutputError: TensorRT does not take it; names the first reasons.
    """
    if problems := violations(path):
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise OutputError(f"{path.name}: TensorRT does not take it: {'; '.join(problems[:3])}{more}")


def _read(path: Path) -> _Graph:
    onnx = require("onnx")
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
    except Exception as error:  # protobuf's own, which has no public base
        raise OutputError(f"{path.name}: is not an ONNX graph ({reason(error)})") from error
    graph = model.graph
    types = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.output, *graph.value_info)}
    types |= {item.name: item.data_type for item in graph.initializer}
    constants = {item.name for item in graph.initializer}
    shapes = set(constants)
    for node in graph.node:
        inputs = {name for name in node.input if name}
        if inputs <= constants and not node.op_type.startswith("Random"):
            constants.update(node.output)
        if inputs <= shapes or node.op_type in ("Shape", "Size"):
            shapes.update(node.output)
    return _Graph(model, types, frozenset(constants), frozenset(shapes))


def _opset(graph: _Graph) -> Iterator[str]:
    for item in graph.model.opset_import:
        if item.domain in ("", "ai.onnx") and item.version > NEWEST_OPSET:
            yield f"opset {item.version} is newer than {NEWEST_OPSET}"


def _operators(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield f"{node.op_type} is not of ONNX but of {node.domain} ({node.name})"
        elif node.op_type not in _OPERATORS:
            yield f"it has no operator {node.op_type} ({node.name})"


def _doubles(graph: _Graph) -> Iterator[str]:
    double = require("onnx").TensorProto.DOUBLE
    for name, kind in graph.types.items():
        if kind == double:
            yield f"{name} is float64, which it has not"


def _whole_numbers(graph: _Graph) -> Iterator[str]:
    kinds = require("onnx").TensorProto
    for node in graph.nodes:
        if node.op_type in _FLOATS and graph.types.get(node.input[0]) in (kinds.INT32, kinds.INT64):
            yield f"{node.op_type} takes floats alone ({node.name})"


def _data_dependent_shapes(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes:
        for place in _SHAPES.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and node.input[place] not in graph.shapes:
                yield f"the shape of {node.op_type}'s output depends on data ({node.name})"
                break


def _fixed_inputs(graph: _Graph) -> Iterator[str]:
    for node in graph.nodes:
        for place in _CONSTANTS.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] and node.input[place] not in graph.constants:
                yield f"input {place} of {node.op_type} has to be a constant ({node.name})"


def _zero_points(graph: _Graph) -> Iterator[str]:
    onnx = require("onnx")
    arrays = {item.name: item for item in graph.model.graph.initializer}
    for node in graph.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            point = arrays.get(node.input[2])
            if point is None or onnx.numpy_helper.to_array(point).any():
                yield f"the zero point of {node.op_type} has to be zero ({node.name})"


RULES: tuple[Rule, ...] = (
    *(_opset, _operators, _doubles, _whole_numbers, _data_dependent_shapes, _fixed_inputs, _zero_points),
)
"""All rules; each yields a sentence for every place that breaks it."""


@dataclass(frozen=True)
class Profile:
    """Shapes of one input that an engine is built for."""

    least: tuple[int, ...]
    usual: tuple[int, ...]
    """Shape that it is made fastest for."""
    most: tuple[int, ...]


def trtexec(path: str, engine: str, profiles: Mapping[str, Profile]) -> str:
    """Return the command that builds an engine of a graph.

    Args:
        path: Name of the graph's file.
        engine: Name of the file to write.
        profiles: The shapes of each input.
    """

    def shapes(attribute: str) -> str:
        sizes = {name: "x".join(map(str, getattr(profile, attribute))) for name, profile in profiles.items()}
        return ",".join(f"{name}:{size}" for name, size in sizes.items())

    options = {"minShapes": shapes("least"), "optShapes": shapes("usual"), "maxShapes": shapes("most")}
    words = " ".join(f"--{name}={value}" for name, value in options.items())
    return f"trtexec --onnx={path} --saveEngine={engine} {words}"


def is_installed() -> bool:
    """Return whether TensorRT can be imported here."""
    import importlib.util

    return importlib.util.find_spec("tensorrt") is not None


def build_engine(path: Path, engine: Path, profiles: Mapping[str, Profile]) -> None:
    """Build an engine of a graph for the GPU that is here; it runs on that kind of GPU alone.

    Raises:
        OutputError: TensorRT is not installed or does not build it.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise OutputError(f"an engine needs TensorRT ({error}): pip install tensorrt") from None
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        problem = parser.get_error(0).desc() if parser.num_errors else "no reason given"
        raise OutputError(f"{path.name}: TensorRT does not read it ({reason(RuntimeError(problem))})")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for name, shapes in profiles.items():
        profile.set_shape(name, shapes.least, shapes.usual, shapes.most)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise OutputError(f"{path.name}: TensorRT builds no engine of it; trtexec --verbose says why")
    engine.write_bytes(bytes(plan))
