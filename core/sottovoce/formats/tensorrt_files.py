"""Files of an export for TensorRT: a graph that its rules allow, a README with the command, and where it is an engine.

The graph keeps floats: of integers, TensorRT takes those of its own calibration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from sottovoce.formats.tensorrt import Profile

GRAPH, PLAN, README = "model.trt.onnx", "model.plan", "README.md"
"""Names of the files; clients of other graphs do not find this one."""

_TEXT = """\
# {name} for TensorRT

`{graph}` has no float64, no shape that depends on data, and only operators that TensorRT's parser has. Build an
engine on the GPU that is to run it:

```sh
{command}
```

{notes}"""


@dataclass(frozen=True, kw_only=True)
class Export:
    """A module to be written for TensorRT."""

    module: nn.Module
    """Module, float32 and on the CPU, that does not branch on data."""
    inputs: Sequence[Tensor]
    """Example inputs."""
    input_names: Sequence[str]
    output_names: Sequence[str]
    dynamic_axes: Mapping[str, Mapping[int, str]]
    profiles: Mapping[str, Profile]
    """Shapes of each input that an engine is built for."""


def write_tensorrt(export: Export, directory: Path, name: str, notes: str, metadata: Mapping[str, str]) -> None:
    """Write the graph and the README, and build an engine where TensorRT is installed.

    Args:
        export: The module with its inputs.
        directory: Where the files are written.
        name: Name of the model, for the README.
        notes: Paragraphs of the README on inputs and outputs.
        metadata: Named strings that clients read in the graph.

    Raises:
        OutputError: ONNX is not installed, TensorRT does not take the graph, or builds no engine.
    """
    from sottovoce.formats.onnx import export_onnx, write_metadata
    from sottovoce.formats.tensorrt import build_engine, is_installed, require_allowed, trtexec

    path = directory / GRAPH
    export_onnx(
        export.module,
        export.inputs,
        path,
        input_names=export.input_names,
        output_names=export.output_names,
        dynamic_axes=export.dynamic_axes,
    )
    if metadata:
        write_metadata(path, metadata)
    require_allowed(path)
    command = trtexec(path.name, PLAN, export.profiles)
    text = _TEXT.format(name=name, graph=GRAPH, command=command, notes=notes)
    (directory / README).write_text(text, encoding="utf-8")
    if is_installed():
        build_engine(path, directory / PLAN, export.profiles)
