"""Quantized weights in an ONNX graph: a traced float graph gets the model's own quantized values, exactly.

A product or look-up whose float weight stands for quantized values is replaced by what onnxruntime runs on these:

| weights | inputs | operators |
| --- | --- | --- |
| int8, a scale for each output | quantized by the range of the tensor | DynamicQuantizeLinear, MatMulInteger |
| the same | quantized by a calibrated range | QuantizeLinear, DequantizeLinear, MatMul (QDQ) |
| the same | quantized by the range of a row | MatMulNBits of 8 bits, which quantizes blocks of rows |
| int8, or fewer bits, in groups | float | MatMulNBits |
| in groups that are no multiple of 16 | float | Cast, Mul, MatMul |
| int8 table | indices | Gather |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.formats.onnx_blocks import block_size, to_blocks
from sottovoce.formats.onnx_graph import CONTRIBUTED, OnnxGraph

if TYPE_CHECKING:
    from sottovoce.formats.quantized_weights import QuantizedWeight, QuantizedWeights

_FLOAT, _INT8_MIDDLE = 1, 128
_FLOAT_INPUTS, _INT8_INPUTS = 1, 4
"""Accuracy levels of ``MatMulNBits``."""


def carry_weights(
    float_path: Path, path: Path, weights: QuantizedWeights, accuracy_level: int | None = None
) -> tuple[str, ...]:
    """Write a graph with quantized weights in the place of the floats that they stand for.

    Products (``MatMul``, and ``Gemm`` without factors) and tables (``Gather``) are replaced; their weights may be
    initializers, constants, or either of these transposed. All else stays as it is.

    Args:
        float_path: The float graph, traced of the model that ``weights`` are from.
        path: The file to write.
        weights: The model's quantized weights.
        accuracy_level: Precision of the inputs of ``MatMulNBits`` while it multiplies: 1 is float32, 4 is int8 with a
            scale for each block, which is faster. By default float32 for int8 weights whose inputs are to stay float.

    Returns:
        Names of the layers whose weights were carried over, in the order of the graph.

    Raises:
        OutputError: ONNX is not installed, or the graph cannot be read, or its operator set is too old.
    """
    graph = OnnxGraph(float_path)
    writer = _Writer(graph, accuracy_level)
    nodes: list[Any] = []
    names: dict[str, None] = {}
    for node in graph.nodes:
        weight = _weight_behind(graph, node, weights)
        replaced = None if weight is None else writer.replace(node, weight)
        if weight is not None and replaced is not None:
            names[weight.name] = None
        nodes.extend(replaced or [node])
    graph.nodes = nodes
    graph.write(path)
    return tuple(names)


def _weight_behind(graph: OnnxGraph, node: Any, weights: QuantizedWeights) -> QuantizedWeight | None:
    """Return the quantized weight that a node multiplies by or looks up."""
    place = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op_type)
    array = None if place is None or node.domain else graph.constant(node.input[place])
    if array is None:
        return None
    attributes = graph.attributes(node)
    if node.op_type == "Gather":
        array = array if attributes.get("axis", 0) == 0 else array[:0]
    elif not attributes.get("transB", 0):
        array = array.T
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        return None
    behind = weights.find(array)
    # As ``[out, in]``: the other order would be another layer's weight by chance.
    return None if behind is None or behind.transposed else behind.weight


@dataclass
class _Writer:
    """Nodes that run on quantized weights."""

    graph: OnnxGraph
    accuracy_level: int | None

    def __post_init__(self) -> None:
        self._quantized: set[str] = set()

    def replace(self, node: Any, weight: QuantizedWeight) -> list[Any] | None:
        """Return the nodes in the place of one; ``None`` where it has to stay float."""
        if node.op_type == "Gather":
            return self._look_up(node, weight) if weight.scale.shape[1] == 1 else None
        has_bias = len(node.input) > 2 and node.input[2] != ""
        output = f"{node.output[0]}_product" if has_bias else node.output[0]
        nodes = self._product_of(weight)(node, weight, output)
        if has_bias:
            nodes.append(self.graph.node("Add", [output, node.input[2]], node.output, f"{node.name}_bias"))
        return nodes

    def _product_of(self, weight: QuantizedWeight) -> Callable[[Any, QuantizedWeight, str], list[Any]]:
        if weight.inputs is not None:
            return self._static
        if weight.scheme.activations == "dynamic" and weight.scheme.strategy == "tensor":
            return self._dynamic
        return self._blocks if block_size(weight) else self._groups

    def _dynamic(self, node: Any, weight: QuantizedWeight, output: str) -> list[Any]:
        """Quantize the inputs by their range, and multiply integers; onnxruntime fuses the rest of it."""
        source, name, graph = node.input[0], node.name, self.graph
        values, scale, zero_point = (f"{source}_{part}" for part in ("quantized", "scale", "zero_point"))
        nodes = []
        if values not in self._quantized:
            self._quantized.add(values)
            nodes.append(graph.node("DynamicQuantizeLinear", [source], [values, scale, zero_point], f"{values}_node"))
        qweight = graph.add(f"{weight.name}.qweight", weight.qweight.T)
        scales = graph.add(f"{weight.name}.scale", weight.scale[:, 0])
        return [
            *nodes,
            graph.node("Mul", [scale, scales], [f"{name}_scales"], f"{name}_scales_mul"),
            graph.node("MatMulInteger", [values, qweight, zero_point], [f"{name}_integers"], f"{name}_quant"),
            graph.node("Cast", [f"{name}_integers"], [f"{name}_cast"], f"{name}_cast", to=_FLOAT),
            graph.node("Mul", [f"{name}_cast", f"{name}_scales"], [output], f"{name}_scale_mul"),
        ]

    def _static(self, node: Any, weight: QuantizedWeight, output: str) -> list[Any]:
        """Quantize the inputs by the range of calibration: QDQ, as quantizing tools write it."""
        import numpy

        assert weight.inputs is not None
        source, name, graph = node.input[0], node.name, self.graph
        # As uint8, 128 above: the same numbers, which processors multiply with int8 weights.
        scale = graph.add(f"{weight.name}.input_scale", numpy.array(weight.inputs.scale, numpy.float32))
        zero_point = graph.add(
            f"{weight.name}.input_zero_point", numpy.array(weight.inputs.zero_point + _INT8_MIDDLE, numpy.uint8)
        )
        qweight = graph.add(f"{weight.name}.qweight", weight.qweight.T)
        scales = graph.add(f"{weight.name}.scale", weight.scale[:, 0])
        zeros = graph.add(f"{weight.name}.zero_point", numpy.zeros(len(weight.scale), numpy.int8))
        quantized, floats, dequantized = (f"{name}_{part}" for part in ("quantized", "inputs", "weight"))
        return [
            graph.node("QuantizeLinear", [source, scale, zero_point], [quantized], f"{name}_quantize"),
            graph.node("DequantizeLinear", [quantized, scale, zero_point], [floats], f"{name}_dequantize"),
            graph.node("DequantizeLinear", [qweight, scales, zeros], [dequantized], f"{name}_weight", axis=1),
            graph.node("MatMul", [floats, dequantized], [output], name),
        ]

    def _blocks(self, node: Any, weight: QuantizedWeight, output: str) -> list[Any]:
        """Multiply by blocks of 4 or 8 bits."""
        graph, size = self.graph, block_size(weight)
        assert size is not None
        blocks = to_blocks(weight, size)
        inputs = [
            node.input[0],
            graph.add(f"{weight.name}.qweight", blocks.values),
            graph.add(f"{weight.name}.scale", blocks.scales),
        ]
        if blocks.zero_points is not None:
            inputs.append(graph.add(f"{weight.name}.zero_point", blocks.zero_points))
        rows, width = weight.qweight.shape
        sizes = {"K": width, "N": rows, "bits": weight.container_bits, "block_size": size}
        is_float = weight.scheme.bits == 8 and weight.scheme.activations == "none"
        level = self.accuracy_level or (_FLOAT_INPUTS if is_float else _INT8_INPUTS)
        name = f"{node.name}_quant"
        return [graph.node("MatMulNBits", inputs, [output], name, domain=CONTRIBUTED, **sizes, accuracy_level=level)]

    def _groups(self, node: Any, weight: QuantizedWeight, output: str) -> list[Any]:
        """Make the weight float when the graph is loaded: of int8 values ``[groups, size, out]``."""
        import numpy

        graph, name = self.graph, node.name
        rows, groups = weight.scale.shape
        shape = (groups, -1, rows)
        values = weight.qweight.T.reshape(shape)
        qweight = graph.add(f"{weight.name}.qweight", values)
        scales = graph.add(f"{weight.name}.scale", weight.scale.T.reshape(shape))
        width = graph.add(f"{weight.name}.shape", numpy.array(weight.qweight.T.shape, numpy.int64))
        cast, shifted, scaled, dequantized = (f"{name}_{part}" for part in ("cast", "shifted", "scaled", "weight"))
        nodes = [graph.node("Cast", [qweight], [cast], cast, to=_FLOAT)]
        if weight.zero_point is not None:
            points = weight.zero_point.astype(numpy.float32).T.reshape(shape)
            nodes.append(graph.node("Sub", [cast, graph.add(f"{weight.name}.zero_point", points)], [shifted], shifted))
        else:
            shifted = cast
        return [
            *nodes,
            graph.node("Mul", [shifted, scales], [scaled], scaled),
            graph.node("Reshape", [scaled, width], [dequantized], dequantized),
            graph.node("MatMul", [node.input[0], dequantized], [output], name),
        ]

    def _look_up(self, node: Any, weight: QuantizedWeight) -> list[Any]:
        """Look int8 rows up, and their scales."""
        import numpy

        graph, name = self.graph, node.name
        values = graph.add(f"{weight.name}.table", weight.qweight)
        scales = graph.add(f"{weight.name}.table_scale", weight.scale)
        rows, cast, scale = (f"{name}_{part}" for part in ("rows", "cast", "scale"))
        nodes = [
            graph.node("Gather", [values, node.input[1]], [rows], rows),
            graph.node("Cast", [rows], [cast], cast, to=_FLOAT),
            graph.node("Gather", [scales, node.input[1]], [scale], scale),
        ]
        if weight.zero_point is not None:
            points = graph.add(f"{weight.name}.table_zero_point", weight.zero_point.astype(numpy.float32))
            point, shifted = f"{name}_point", f"{name}_shifted"
            nodes.append(graph.node("Gather", [points, node.input[1]], [point], point))
            nodes.append(graph.node("Sub", [cast, point], [shifted], shifted))
            cast = shifted
        return [*nodes, graph.node("Mul", [cast, scale], node.output, name)]
