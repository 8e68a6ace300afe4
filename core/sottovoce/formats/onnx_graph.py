"""An ONNX graph while it is rewritten: constants by name, nodes in the place of others, what is then unused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, reason
from sottovoce.formats.onnx import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_OPSET = 13
"""The first operator set in which ``DequantizeLinear`` has a scale for each output."""
CONTRIBUTED = "com.microsoft"
"""Domain of the operators that onnxruntime adds to the standard's."""
_LARGEST = 1_800_000_000
"""Bytes of weights that go into one file; protobuf reads no more than 2 GiB."""
_FREE = ("Constant", "Identity", "Transpose")
"""Operators that are taken away when nothing reads them."""


class OnnxGraph:
    """The main graph of a file, whose weights may be replaced."""

    def __init__(self, path: Path) -> None:
        """Read a file with its weights, also where these lie in files of their own.

        Raises:
            OutputError: ONNX is not installed, or the file is not a graph, or one of an operator set that is too old.
        """
        self._onnx = require("onnx")
        try:
            self._model = self._onnx.load(str(path))
        except Exception as error:  # protobuf's own, which has no public base
            raise OutputError(f"{path.name}: is not an ONNX graph ({reason(error)}); write it again") from error
        opset = max((item.version for item in self._model.opset_import if item.domain in ("", "ai.onnx")), default=0)
        if opset < LEAST_OPSET:
            raise OutputError(
                f"{path.name}: opset {opset} is too old for quantized weights; write it with {LEAST_OPSET} or newer"
            )
        self.nodes: list[Any] = list(self._model.graph.node)
        """Nodes in the order that they run in."""
        self._initializers = {item.name: item for item in self._model.graph.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output}

    def constant(self, name: str) -> NDArray[Any] | None:
        """Return the weight of a name, also one that constants are transposed to; ``None`` for what is computed."""
        if name in self._initializers:
            array: NDArray[Any] = self._onnx.numpy_helper.to_array(self._initializers[name])
            return array
        node = self._makers.get(name)
        if node is None or node.op_type not in _FREE:
            return None
        attributes = {item.name: self._onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Constant":
            value = attributes.get("value")
            return None if value is None else self._onnx.numpy_helper.to_array(value)
        source = self.constant(node.input[0])
        if source is None or node.op_type == "Identity":
            return source
        return source.transpose(attributes.get("perm"))

    def add(self, name: str, array: NDArray[Any]) -> str:
        """Add a weight unless one of this name is there, and return the name."""
        import numpy

        if name not in self._initializers:
            self._initializers[name] = self._onnx.numpy_helper.from_array(numpy.ascontiguousarray(array), name)
        return name

    def node(self, kind: str, inputs: Iterable[str], outputs: Iterable[str], name: str, **attributes: Any) -> Any:
        """Make a node; it stands nowhere yet."""
        return self._onnx.helper.make_node(kind, list(inputs), list(outputs), name=name, **attributes)

    def attributes(self, node: Any) -> dict[str, Any]:
        """Return a node's attributes by name."""
        return {item.name: self._onnx.helper.get_attribute_value(item) for item in node.attribute}

    def write(self, path: Path) -> None:
        """Write the graph without what nothing reads any more; many weights go into a file beside it."""
        graph = self._model.graph
        nodes, read = self._read_nodes()
        del graph.node[:]
        graph.node.extend(nodes)
        weights = [item for name, item in self._initializers.items() if name in read]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        domains = {item.domain for item in self._model.opset_import}
        if CONTRIBUTED not in domains and any(node.domain == CONTRIBUTED for node in nodes):
            self._model.opset_import.append(self._onnx.helper.make_opsetid(CONTRIBUTED, 1))
        large = sum(len(item.raw_data) for item in weights) > _LARGEST
        weights_path = path.with_name(f"{path.name}.data")
        weights_path.unlink(missing_ok=True)  # ONNX would append to it
        self._onnx.save_model(self._model, str(path), save_as_external_data=large, location=weights_path.name)

    def _read_nodes(self) -> tuple[list[Any], set[str]]:
        """Return the nodes that stay, and the names that are read."""
        nodes, outputs = self.nodes, {item.name for item in self._model.graph.output}
        while True:
            read = outputs | {name for node in nodes for name in _inputs(node)}
            kept = [node for node in nodes if node.op_type not in _FREE or read.intersection(node.output)]
            if len(kept) == len(nodes):
                return nodes, read
            nodes = kept


def _inputs(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, with those that its branches and loops read."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
            yield from (item.name for item in graph.output)
            for inner in graph.node:
                yield from _inputs(inner)
