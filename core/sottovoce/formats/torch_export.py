"""Programs of ``torch.export`` (``.pt2``): written without pickles, and run again by PyTorch alone."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, SourceError, reason
from sottovoce.system.process_state import ignored_warnings

if TYPE_CHECKING:
    from torch import Tensor, nn

_OUTPUTS = "outputs"
"""Name of the list of outputs inside a file."""
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
"""Facts of a node that say from which line of the module it came."""
_CONFIG = "_config.json"
"""End of the names of the lists that say how tensors are stored: as plain bytes, or as pickles."""


def export_program(
    module: nn.Module,
    inputs: Sequence[Tensor],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Capture a module and write it as one ``.pt2`` file, which holds no pickle.

    The module must not branch on data. It is captured in evaluation mode and left as it was.

    Args:
        module: The module, float32 and on the CPU.
        inputs: Example inputs; axes of any length are longer than 1 in them.
        path: The file to write.
        input_names: Names of the inputs, which are those of the arguments of ``forward``.
        output_names: Names of the outputs.
        dynamic_axes: For each input, the axes of any length with a name for each; axes of one name are equally long.
            A name such as ``800*windows`` is for lengths that are multiples. Other names are ignored.

    Raises:
        OutputError: The module cannot be captured, or the file cannot be written.
    """
    import torch

    from sottovoce.formats.onnx import evaluating

    axes = {name: dynamic_axes.get(name, {}) for name in input_names}
    labels = {label for named in axes.values() for label in named.values()}
    dims = {label: axis_of(label) for label in sorted(labels)}
    shapes = {name: {axis: dims[label] for axis, label in named.items()} for name, named in axes.items()}
    with evaluating(module), torch.no_grad(), ignored_warnings():
        try:
            program = torch.export.export(module, tuple(inputs), dynamic_shapes=shapes, strict=False)
        except Exception as error:
            # Its exceptions have no common base.
            raise OutputError(f"{path.name}: {type(module).__name__} cannot be captured ({reason(error)})") from error
        # The example inputs would be written as a pickle, and the rest is the paths of this machine's files.
        program.example_inputs = None
        for node in program.graph.nodes:
            for name in _TRACES:
                node.meta.pop(name, None)
        torch.export.save(program, path, extra_files={_OUTPUTS: "\n".join(output_names)})
    if pickles := pickles_in(path):
        raise OutputError(f"{path.name}: this PyTorch writes pickles into it ({pickles[0]}); use another version")


def axis_of(label: str, most: int | None = None) -> Any:
    """Return an axis of any length.

    Args:
        label: Name of the axis; ``800*windows`` is for lengths that are multiples of 800.
        most: Greatest length, or greatest number of multiples.
    """
    import torch

    factor, _, name = label.rpartition("*")
    axis = torch.export.Dim(name, min=1, max=most)
    return int(factor) * axis if factor else axis


def pickles_in(path: Path) -> list[str]:
    """Return the parts of a ``.pt2`` file that PyTorch would read as pickles.

    Raises:
        SourceError: It is not such a file.
    """
    pickles = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in (member.filename for member in archive.infolist() if member.file_size):
                if name.endswith(_CONFIG):
                    tensors = json.loads(archive.read(name))["config"]
                    pickles += [f"{name}: {key}" for key, facts in tensors.items() if facts["use_pickle"]]
                elif "/sample_inputs/" in name:
                    pickles.append(name)
    except (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SourceError(f"{path.name}: is not a file of torch.export ({reason(error)})") from error
    return pickles


class ProgramSession:
    """A ``.pt2`` file as PyTorch runs it on the CPU."""

    def __init__(self, path: Path) -> None:
        """Load a file.

        Raises:
            SourceError: It is not a file of ``torch.export``, or holds a pickle.
            OutputError: PyTorch does not read it.
        """
        import torch

        if pickles := pickles_in(path):
            raise SourceError(f"{path.name}: holds the pickle {pickles[0]}, which is not read; export the model again")
        extra: dict[str, Any] = {_OUTPUTS: ""}
        self.path = path
        try:
            with ignored_warnings():
                program = torch.export.load(path, extra_files=extra)
                self._run = program.module()
        except Exception as error:
            raise OutputError(f"{path.name}: PyTorch does not read it ({reason(error)})") from error
        examples = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        names = program.graph_signature.user_inputs
        self._inputs = {str(name): list(examples[str(name)].shape) for name in names}
        self._outputs = str(extra[_OUTPUTS]).split("\n")

    @property
    def inputs(self) -> dict[str, list[int | None]]:
        """Shapes of the inputs by name; an axis of any length is ``None``."""
        return {name: [size if type(size) is int else None for size in shape] for name, shape in self._inputs.items()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the program on NumPy arrays, and return its outputs by name.

        Raises:
            OutputError: PyTorch cannot run it.
        """
        outputs = run_on_arrays(self._run, [inputs[name] for name in self._inputs], self.path)
        return dict(zip(self._outputs, outputs, strict=True))


def run_on_arrays(graph: Callable[..., Any], arrays: Sequence[Any], path: Path) -> list[Any]:
    """Run a graph that PyTorch loaded on NumPy arrays, and return its outputs as such.

    Raises:
        OutputError: PyTorch cannot run it; names the file.
    """
    import torch

    try:
        with torch.no_grad():
            outputs = graph(*map(torch.from_numpy, arrays))
    except Exception as error:  # What a graph raises has no common base.
        raise OutputError(f"{path.name}: PyTorch does not run it ({reason(error)})") from error
    return [output.numpy() for output in ((outputs,) if isinstance(outputs, torch.Tensor) else outputs)]
