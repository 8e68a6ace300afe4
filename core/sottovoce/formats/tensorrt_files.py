"""Files of an export for TensorRT: a graph that its rules allow, a README with the command, and where it is an engine.

The graph keeps floats: of integers, TensorRT takes those of its own calibration alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sottovoce.formats.onnx_files import ModuleT, Traceable
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
class Notes:
    """Text of the README on a model, and metadata that clients read in its graph."""

    name: str
    """Name of the model."""
    text: str
    """Paragraphs on inputs and outputs."""
    metadata: Mapping[str, str] = field(default_factory=dict)


def write_tensorrt(
    traceable: Traceable[ModuleT], profiles: Mapping[str, Profile], directory: Path, notes: Notes
) -> None:
    """Write the graph and the README, and build an engine where TensorRT is installed.

    Args:
        traceable: The module with its inputs.
        profiles: Shapes of each input that an engine is built for.
        directory: Where the files are written.
        notes: What the README says.

    Raises:
        OutputError: ONNX is not installed, TensorRT does not take the graph, or builds no engine.
    """
    from sottovoce.formats.onnx import write_metadata
    from sottovoce.formats.onnx_files import write_onnx
    from sottovoce.formats.tensorrt import build_engine, is_installed, require_allowed, trtexec

    path = directory / GRAPH
    write_onnx(traceable, path)
    if notes.metadata:
        write_metadata(path, notes.metadata)
    require_allowed(path)
    command = trtexec(path.name, PLAN, profiles)
    text = _TEXT.format(name=notes.name, graph=GRAPH, command=command, notes=notes.text)
    (directory / README).write_text(text, encoding="utf-8")
    if is_installed():
        build_engine(path, directory / PLAN, profiles)
