"""ExecuTorch: modules as the methods of one ``.pte`` file, lowered to XNNPACK, and a session to run it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, reason
from sottovoce.system.process_state import ignored_warnings

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Method:
    """A module that becomes a method of a file."""

    name: str
    module: nn.Module
    """Module, float32 and on the CPU, that does not branch on data."""
    inputs: tuple[Tensor, ...]
    """Example inputs; axes of any length are longer than 1 in them."""
    lengths: Mapping[str, Mapping[int, tuple[str, int]]] = field(default_factory=dict)
    """For each argument of ``forward``, the axes of any length: a name and the greatest length of each. For multiples
    it is a name such as ``800*windows`` and the greatest number of them."""


def export_executorch(
    methods: Sequence[Method], path: Path, constants: Mapping[str, int | float | str] | None = None
) -> None:
    """Write modules as one ``.pte`` file; what XNNPACK computes is handed to it, the rest to portable kernels.

    Memory is planned for the greatest lengths.

    Args:
        methods: The methods.
        path: The file to write.
        constants: Values that clients read, each by a method without inputs.

    Raises:
        OutputError: ExecuTorch is not installed, or a module cannot be captured or lowered.
    """
    import torch

    from sottovoce.formats.onnx import evaluating
    from sottovoce.formats.torch_export import axis_of

    exir = require("executorch.exir")
    partition = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    programs = {}
    for method in methods:
        names = {label: bound for axes in method.lengths.values() for label, bound in axes.values()}
        dims = {label: axis_of(label, bound) for label, bound in names.items()}
        shapes = {
            name: {axis: dims[label] for axis, (label, _) in axes.items()} for name, axes in method.lengths.items()
        }
        with evaluating(method.module), torch.no_grad(), ignored_warnings():
            try:
                programs[method.name] = torch.export.export(
                    method.module, method.inputs, dynamic_shapes=shapes or None, strict=False
                )
            except Exception as error:
                # Its exceptions have no common base.
                kind = type(method.module).__name__
                raise OutputError(f"{path.name}: {kind} cannot be captured ({reason(error)})") from error
    with ignored_warnings():
        try:
            edge = exir.to_edge_transform_and_lower(
                programs,
                partitioner=[partition.XnnpackPartitioner()],
                constant_methods=dict(constants or {}),
                # torchao's operators are none of the core set; the partitioner takes them all.
                compile_config=exir.EdgeCompileConfig(_check_ir_validity=False),
            )
            path.write_bytes(edge.to_executorch().buffer)
        except OSError:
            raise
        except Exception as error:
            raise OutputError(f"{path.name}: ExecuTorch cannot lower it ({reason(error)})") from error


class ExecuTorchSession:
    """A ``.pte`` file as ExecuTorch's runtime runs it on the CPU."""

    def __init__(self, path: Path) -> None:
        """Load a file and its methods.

        Raises:
            OutputError: ExecuTorch is not installed, or does not read the file.
        """
        runtime = require("executorch.runtime")
        self.path = path
        try:
            # From bytes: a file that is mapped could change while it runs.
            self._program = runtime.Runtime.get().load_program(path.read_bytes())
            names = sorted(self._program.method_names)
            self._methods = {name: self._program.load_method(name) for name in names}
        except (RuntimeError, ValueError) as error:
            raise OutputError(f"{path.name}: ExecuTorch does not read it ({reason(error)})") from error

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(self._methods)

    def greatest(self, method: str) -> list[tuple[int, ...]]:
        """Return the greatest shape of each input of a method."""
        facts = self._methods[method].metadata
        return [tuple(facts.input_tensor_meta(number).sizes()) for number in range(facts.num_inputs())]

    def constant(self, name: str) -> Any:
        """Return a value that was written beside the methods.

        Raises:
            OutputError: The file has none of this name.
        """
        if name not in self._methods:
            raise OutputError(f"{self.path.name}: has no value {name!r}; export the model again")
        return self._methods[name].execute([])[0]

    def run(self, method: str, inputs: Sequence[Any]) -> list[Any]:
        """Run a method on NumPy arrays, and return its outputs.

        Raises:
            OutputError: ExecuTorch cannot run it, for one because an input is longer than memory was planned for.
        """
        import numpy
        import torch

        tensors = [torch.from_numpy(numpy.ascontiguousarray(array)) for array in inputs]
        try:
            outputs = self._methods[method].execute(tensors)
        except RuntimeError as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise OutputError(
                f"{self.path.name}: ExecuTorch does not run {method!r} on {shapes} ({reason(error)})"
            ) from error
        # The memory is the method's, which its next run writes to.
        return [output.numpy().copy() for output in outputs]


def require(name: str) -> Any:
    """Import a library of the extra ``executorch``.

    Raises:
        OutputError: It is not installed.
    """
    try:
        with ignored_warnings():
            return importlib.import_module(name)
    except ImportError as error:
        raise OutputError(f"this needs executorch ({error}): pip install 'sottovoce[executorch]'") from None
