"""A module with what its trace needs, written as an ONNX file, and with a compressed model's integers as another."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.formats.quantized_weights import QuantizedWeights

ModuleT = TypeVar("ModuleT", bound="nn.Module")


@dataclass(frozen=True, kw_only=True)
class Traceable(Generic[ModuleT]):
    """A module that does not branch on data, with example inputs."""

    module: ModuleT
    """Module, float32 and on the CPU."""
    inputs: tuple[Tensor, ...]
    """Example inputs; axes of any length are longer than 1 in them."""
    input_names: Sequence[str]
    output_names: Sequence[str]
    dynamic_axes: Mapping[str, Mapping[int, str]]
    """For each input or output, the axes of any length with a name for each."""


def trace(traceable: Traceable[ModuleT], path: Path) -> None:
    """Write the graph; where it is large, its weights come in a file each.

    Raises:
        OutputError: ONNX is not installed, or the module cannot be traced.
    """
    from sottovoce.formats.onnx import export_onnx

    export_onnx(
        traceable.module,
        traceable.inputs,
        path,
        input_names=traceable.input_names,
        output_names=traceable.output_names,
        dynamic_axes=traceable.dynamic_axes,
    )


def write_onnx(
    traceable: Traceable[ModuleT],
    path: Path,
    weights: QuantizedWeights | None = None,
    quantized_path: Path | None = None,
) -> None:
    """Write the graph as one file, with one more beside it where its weights are large.

    Args:
        traceable: The module.
        path: The file of the float graph.
        weights: Quantized weights of the model that the module is of.
        quantized_path: The file of the graph with these, which is written where there are any.

    Raises:
        OutputError: ONNX is not installed, or the module cannot be traced.
    """
    from sottovoce.formats.onnx_graph import OnnxGraph
    from sottovoce.formats.onnx_weights import carry_weights

    # Traced elsewhere: the weights of a large graph come in a file each, and are written again as one.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        traced = Path(folder) / path.name
        trace(traceable, traced)
        OnnxGraph(traced).write(path)
        if weights and quantized_path is not None:
            carry_weights(traced, quantized_path, weights)
