"""The graphs in PyTorch's own operators, with a compressed model's integers inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce_paraformer.onnx_export import on_cpu, refuse_unsupported

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce_paraformer.onnx_graphs import Graph


def stored_graphs(model: Model, format: str) -> tuple[Graph, ...]:
    """Return the graphs of a model; their modules are made for this and may be changed.

    Raises:
        UsageError: The class or the configuration cannot be exported; names the format.
    """
    import dataclasses

    from sottovoce.formats.quantized_weights import QuantizedWeights
    from sottovoce.formats.stored_weights import store_weights
    from sottovoce_paraformer.onnx_graphs import graphs

    refuse_unsupported(model.module, format)
    weights = QuantizedWeights(model.module)
    stored = tuple(dataclasses.replace(graph, module=on_cpu(graph.module)) for graph in graphs(model.module))
    for graph in stored:
        store_weights(graph.module, weights)
    return stored
