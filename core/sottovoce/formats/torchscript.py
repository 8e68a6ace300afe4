"""TorchScript: a traced module as one file, for PyTorch without Python; deprecated by PyTorch, and still asked for.

Its archive holds two pickles of TorchScript's own, ``data.pkl`` and ``constants.pkl``, which only name tensors and
classes of the archive, and which no option leaves out. ``torch.jit.load`` reads them by an interpreter of its own that
calls nothing of Python's.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, reason
from sottovoce.formats.torch_export import run_on_arrays
from sottovoce.system.process_state import ignored_warnings

if TYPE_CHECKING:
    from torch import Tensor, nn

_SIGNATURE = "signature.json"
_LEFT_OUT = (".debug_pkl", "traced_inputs.pkl")


def export_script(
    module: nn.Module,
    inputs: Sequence[Tensor],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Trace a module and write it as one TorchScript file.

    The module must not branch on data: what the example inputs do not reach is not in the trace. It is put into
    evaluation mode for the trace and left as it was.

    Args:
        module: The module, float32 and on the CPU.
        inputs: Example inputs.
        path: The file to write.
        input_names: Names of the inputs.
        output_names: Names of the outputs.
        dynamic_axes: For each input, the axes of any length.

    Raises:
        OutputError: The module cannot be traced.
    """
    import torch

    from sottovoce.formats.onnx import evaluating

    signature = {
        "inputs": {
            name: [None if axis in dynamic_axes.get(name, {}) else size for axis, size in enumerate(example.shape)]
            for name, example in zip(input_names, inputs, strict=True)
        },
        "outputs": list(output_names),
    }
    with evaluating(module), torch.no_grad(), ignored_warnings():
        try:
            script = torch.jit.trace(module, tuple(inputs), check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(script, str(path), _extra_files={_SIGNATURE: json.dumps(signature)})
        except RuntimeError as error:
            raise OutputError(f"{path.name}: {type(module).__name__} cannot be traced ({reason(error)})") from error
    _drop_sources(path)


def _drop_sources(path: Path) -> None:
    """Leave out which line of which of this machine's files each operator came from; they are more pickles."""
    kept = path.with_name(f"{path.name}.kept")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(kept, "w") as target:
        for name in source.namelist():
            if not name.endswith(_LEFT_OUT):
                target.writestr(zipfile.ZipInfo(name), source.read(name))
    kept.replace(path)


class ScriptSession:
    """A TorchScript file as PyTorch runs it on the CPU."""

    def __init__(self, path: Path) -> None:
        """Load a file that :func:`export_script` wrote.

        Raises:
            OutputError: PyTorch does not read it.
        """
        import torch

        self.path = path
        extra: dict[str, Any] = {_SIGNATURE: ""}
        try:
            with ignored_warnings():
                self._run = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
            signature = json.loads(extra[_SIGNATURE])
            self._inputs, self._outputs = dict(signature["inputs"]), list(signature["outputs"])
        except (RuntimeError, ValueError, LookupError, TypeError) as error:
            raise OutputError(f"{path.name}: PyTorch does not read it ({reason(error)})") from error

    @property
    def inputs(self) -> dict[str, list[int | None]]:
        """Shapes of the inputs by name; an axis of any length is ``None``."""
        return self._inputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the script on NumPy arrays, and return its outputs by name.

        Raises:
            OutputError: PyTorch cannot run it.
        """
        outputs = run_on_arrays(self._run, [inputs[name] for name in self._inputs], self.path)
        return dict(zip(self._outputs, outputs, strict=True))
