"""OpenVINO: an ONNX graph as its IR, with a compressed model's own integers as constants, and a session to run it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sottovoce.formats.quantized_weights import Place, QuantizedWeight, QuantizedWeights

_TELEMETRY = "openvino_telemetry"
_HALF = 8
"""Difference between an unsigned and a signed value of 4 bits."""


def export_openvino(onnx_path: Path, path: Path, weights: QuantizedWeights | None = None) -> int:
    """Write an ONNX graph as OpenVINO IR: ``NAME.xml`` and, with the weights, ``NAME.bin`` beside it.

    Floats stay float32. A weight behind which a compressed model has integers becomes these integers, in the pattern
    that OpenVINO's CPU plugin takes for compressed weights: ``Constant`` (i8, i4 or u4) -> ``Convert`` ->
    ``Subtract`` of the zero point, where there is one -> ``Multiply`` by the scales -> ``Reshape``. Nothing is rounded
    again, so the integers and scales are the model's, bit by bit. Where the model's layers do not round their inputs,
    the file asks OpenVINO not to round them either; layers with int8 inputs leave it the choice.

    Example:
        ```python
        graph, ir = Path("model.onnx"), Path("model.xml")
        export_onnx(module, inputs, graph, ...)  # the module as floats
        export_openvino(graph, ir, QuantizedWeights(compressed_module))
        OpenVINOSession(ir).run({"x": array})
        ```

    Args:
        onnx_path: The float graph; it is not needed afterwards.
        path: The ``.xml`` file to write.
        weights: What the model's compressed layers hold; ``None`` or an empty one writes all in float.

    Returns:
        The number of layers of which the integers were written.

    Raises:
        OutputError: OpenVINO is not installed, does not read the graph, or cannot write the file.
    """
    openvino = _require()
    try:
        model = openvino.Core().read_model(str(onnx_path))
    except Exception as error:
        raise OutputError(f"{onnx_path.name}: OpenVINO does not read the graph ({_last_line(error)})") from error
    count = 0 if weights is None or not len(weights) else _replace_weights(model, weights)
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except Exception as error:
        raise OutputError(f"{path.name}: OpenVINO cannot write it ({_last_line(error)})") from error
    return count


class OpenVINOSession:
    """OpenVINO IR, compiled for the CPU."""

    def __init__(self, path: Path, precision: str = "f32", threads: int | None = None) -> None:
        """Compile a file.

        Args:
            path: The ``.xml`` file.
            precision: Type in which products of floats are computed. ``f32`` is exact everywhere; OpenVINO itself
                chooses ``bf16`` where the processor has it.
            threads: Number of threads; ``None`` is OpenVINO's choice.

        Raises:
            OutputError: OpenVINO is not installed, or does not compile the file.
        """
        openvino = _require()
        self.path = path
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = openvino.Core().compile_model(str(path), "CPU", options)
        except Exception as error:
            # Its exceptions have no common base, and the cause comes last.
            raise OutputError(f"{path.name}: OpenVINO does not compile it ({_last_line(error)})") from error

    @property
    def inputs(self) -> dict[str, list[int | None]]:
        """Shapes of the inputs by name; an axis of any length is ``None``."""
        return {
            port.get_any_name(): [None if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape()]
            for port in self._model.inputs
        }

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run the graph on NumPy arrays, and return its outputs by name.

        Raises:
            OutputError: OpenVINO cannot run the graph.
        """
        try:
            outputs = self._model(dict(inputs))
        except Exception as error:
            raise OutputError(f"{self.path.name}: OpenVINO does not run it ({_last_line(error)})") from error
        return {port.get_any_name(): outputs[port] for port in self._model.outputs}


def _replace_weights(model: Any, weights: QuantizedWeights) -> int:
    """Let the consumers of float constants take what a compressed model has behind them; return how many layers."""
    places: dict[str, Place] = {}
    for node in list(model.get_ordered_ops()):
        if node.get_type_name() != "Constant" or node.get_output_element_type(0).get_type_name() != "f32":
            continue
        place = weights.find(node.data) if len(node.get_output_shape(0)) == 2 else None
        if place is not None:
            _replace(node, place)
            places[place.weight.name] = place
    model.validate_nodes_and_infer_types()
    if any(place.weight.scheme.activations == "none" for place in places.values()):
        # Otherwise the CPU plugin rounds the inputs of compressed weights to int8 by groups of 32.
        model.set_rt_info("0", ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
    return len(places)


def _replace(constant: Any, place: Place) -> None:
    """Connect the consumers of one constant to its integers, which are stored as ``[out, in]``."""
    ops = importlib.import_module("openvino.opset13")
    floats = _decompressed(place.weight)
    transposed = None
    for port in list(constant.output(0).get_target_inputs()):
        consumer = port.get_node()
        if not place.transposed:
            port.replace_source_output(floats.output(0))
        elif consumer.get_type_name() == "MatMul" and port.get_index() == 1:
            # The plugin takes weights whose groups lie along the last axis, so the product does the transposing.
            consumer.set_attribute("transpose_b", not consumer.get_attributes()["transpose_b"])
            port.replace_source_output(floats.output(0))
        else:
            transposed = transposed or ops.transpose(floats, ops.constant([1, 0], dtype="int64"))
            port.replace_source_output(transposed.output(0))


def _decompressed(weight: QuantizedWeight) -> Any:
    """Return the node that computes a layer's float weight ``[out, in]`` from its integers."""
    import numpy

    ops = importlib.import_module("openvino.opset13")
    outputs, inputs = weight.qweight.shape
    groups = weight.scale.shape[1]
    shape = (outputs, inputs) if groups == 1 else (outputs, groups, inputs // groups)
    ends = (*shape[:-1], 1)
    values = ops.convert(_integers(weight, weight.qweight.reshape(shape)), "f32")
    values.set_friendly_name(f"{weight.name}/integers")
    if weight.zero_point is not None:
        values = ops.subtract(values, ops.convert(_integers(weight, weight.zero_point.reshape(ends)), "f32"))
    floats = ops.multiply(values, ops.constant(weight.scale.reshape(ends), dtype=numpy.float32))
    floats.set_friendly_name(f"{weight.name}/weight")
    if groups > 1:
        floats = ops.reshape(floats, ops.constant([outputs, inputs], dtype="int64"), special_zero=False)
    return floats


def _integers(weight: QuantizedWeight, values: NDArray[Any]) -> Any:
    """Return the constant of a layer's integers: signed, or with zero points of 4 bits unsigned.

    Values of 2 and 3 bits are stored in 4.
    """
    import numpy

    openvino = _require()
    ops = importlib.import_module("openvino.opset13")
    if weight.container_bits != 4:
        return ops.constant(values, dtype=numpy.int8)
    is_signed = weight.zero_point is None
    stored = values if is_signed else values.astype(numpy.int16) + _HALF
    # The first value is in the low bits; `openvino.helpers.pack_data` puts it into the high ones.
    bits = stored.astype(numpy.uint8).reshape(-1) & 15
    pairs = numpy.pad(bits, (0, bits.size % 2)).reshape(-1, 2)
    # A tensor of its own memory: one made of an array only points to it.
    tensor = openvino.Tensor(openvino.Type.i4 if is_signed else openvino.Type.u4, openvino.Shape(list(values.shape)))
    tensor.data.reshape(-1)[:] = (pairs[:, 0] | (pairs[:, 1] << 4)).view(tensor.data.dtype)
    return ops.constant(tensor)


def _require() -> Any:
    try:
        with _no_telemetry():
            return importlib.import_module("openvino")
    except ImportError as error:
        raise OutputError(f"this needs openvino ({error}): pip install 'sottovoce[openvino]'") from None


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Hide the package by which OpenVINO reports its import to its maker; it does not need it."""
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(_TELEMETRY, None)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else reason(error)
