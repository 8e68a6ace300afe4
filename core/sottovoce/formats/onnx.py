"""ONNX: a torch module as a graph, its matrix products in int8, metadata for clients, and a session to run it."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, UsageError, reason
from sottovoce.system import telemetry
from sottovoce.system.process_state import ignored_warnings

if TYPE_CHECKING:
    from torch import Tensor, nn

OPSET = 17
"""The first opset with ``LayerNormalization`` as one node; every onnxruntime since 1.12 reads it."""


def export_onnx(
    module: nn.Module,
    inputs: Sequence[Tensor],
    path: Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    opset: int = OPSET,
) -> None:
    """Trace a module and write it as one ONNX file.

    The module must not branch on data: what the example inputs do not reach is not in the graph. It is put into
    evaluation mode for the trace and left as it was.

    Args:
        module: The module, float32 and on the CPU.
        inputs: Example inputs. Axes longer than 1 stay dynamic more reliably than axes of 1.
        path: The file to write; an existing one is overwritten.
        input_names: Names of the graph's inputs.
        output_names: Names of the graph's outputs.
        dynamic_axes: For each input or output, the axes of any length with a name for each.
        opset: Version of the operator set.

    Raises:
        UsageError: The operator set is too old.
        OutputError: ONNX is not installed, or the module cannot be traced.
    """
    import torch

    if opset < OPSET:
        raise UsageError(
            f"{path.name}: opset {opset} is too old: {OPSET} is the first with LayerNormalization; ask for it"
        )
    require("onnx")
    # The tracing exporter, although deprecated. The other one (dynamo=True) gives graphs of the same speed, but calls
    # nodes node_MatMul_76, so that none can be kept by name, writes the example's length into the shape of an output
    # that is reshaped from a dynamic one, takes several times as long, and needs onnxscript.
    with evaluating(module), ignored_warnings():
        try:
            torch.onnx.export(
                module,
                tuple(inputs),
                str(path),
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
                opset_version=opset,
                dynamo=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
            reason = f"{type(module).__name__} cannot be traced ({_first_line(error)})"
            raise OutputError(f"{path.name}: {reason}") from error
    _resolve_aliases(path)


def quantize_onnx(float_path: Path, quantized_path: Path, keep: Iterable[str] = ()) -> None:
    """Quantize the weights of matrix products to int8, by output channel; inputs are quantized while the model runs.

    Weights are signed: on processors with int8 dot products (VNNI) onnxruntime runs them 1.4 times as fast as
    unsigned ones. Without these instructions sums of two products may saturate; there the float file is the safe one.

    Args:
        float_path: The float graph.
        quantized_path: The file to write.
        keep: Nodes whose name contains one of these stay float.

    Raises:
        OutputError: onnxruntime or ONNX is not installed.
    """
    onnx = require("onnx")
    quantization = require("onnxruntime.quantization")
    nodes = onnx.load(str(float_path), load_external_data=False).graph.node
    kept = [node.name for node in nodes if any(part in node.name for part in keep)]
    with _without_advice():
        quantization.quantize_dynamic(
            model_input=str(float_path),
            model_output=str(quantized_path),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=kept,
        )


def write_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Write named strings into an ONNX file; other names keep what they have.

    Weights in files of their own stay where they are and are not read.

    Raises:
        OutputError: ONNX is not installed.
    """
    onnx = require("onnx")
    model = onnx.load(str(path), load_external_data=False)
    known = {item.key: item.value for item in model.metadata_props}
    del model.metadata_props[:]
    for key, value in {**known, **metadata}.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


class OnnxSession:
    """ONNX file as onnxruntime runs it on the CPU."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load a file.

        Args:
            path: The file.
            threads: Number of threads; 0 is onnxruntime's choice, one for each core.

        Raises:
            OutputError: onnxruntime is not installed, or does not read the file.
        """
        runtime = require("onnxruntime")
        self.path = path
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its exceptions have no common base, and no public names.
            raise OutputError(f"{path.name}: onnxruntime does not read what was written ({reason(error)})") from error

    @property
    def metadata(self) -> dict[str, str]:
        """Named strings that :func:`write_metadata` wrote."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """Shapes of the inputs by name; an axis of any length is a name."""
        return {argument.name: argument.shape for argument in self._session.get_inputs()}

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the graph on NumPy arrays, and return its outputs by name.

        Raises:
            OutputError: onnxruntime cannot run the graph.
        """
        names = [argument.name for argument in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            raise OutputError(f"{self.path.name}: onnxruntime does not run it ({reason(error)})") from error


def _resolve_aliases(path: Path) -> None:
    """Let every node name the weight itself: the exporter gives a shared one further names, which hide it."""
    onnx = require("onnx")
    model = onnx.load(str(path), load_external_data=False)
    weights = {weight.name for weight in model.graph.initializer}
    aliases = {
        node.output[0]: node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in weights
    }
    for output in model.graph.output:
        aliases.pop(output.name, None)
    if not aliases:
        return
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in aliases:
                node.input[place] = aliases[name].input[0]
    for node in aliases.values():
        model.graph.node.remove(node)
    path.write_bytes(model.SerializeToString())


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every part into evaluation mode, and restore the modes afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def require(name: str) -> Any:
    """Import a library of the extra ``onnx``.

    Raises:
        OutputError: It is not installed.
    """
    telemetry.forbid()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise OutputError(
            f"ONNX export needs {name.split('.')[0]} ({error}): pip install onnx onnxruntime, the extra onnx"
        ) from None


@contextmanager
def _without_advice() -> Iterator[None]:
    """Mute what onnxruntime writes to the root logger: a line for each tensor, and advice that does not apply."""
    thread = threading.get_ident()

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.thread != thread

    root = logging.getLogger()
    root.addFilter(is_error)
    try:
        yield
    finally:
        root.removeFilter(is_error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
