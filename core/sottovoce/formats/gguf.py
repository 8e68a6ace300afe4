"""GGUF, the file of ggml's engines: metadata and tensors, and a compressed model's own integers in ggml's blocks."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError, UsageError, reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sottovoce.formats.quantized_weights import QuantizedWeight

BLOCK = 32
"""Number of inputs that share a scale in a block."""
_MIDDLE = 8
"""Difference between an unsigned and a signed value of 4 bits."""
_LARGEST_ERROR = 2**-8
"""Largest relative error of a scale in float16: it moves a value of 8 bits by less than half a step."""

Value = str | int | float | Sequence[str]
"""A value of the metadata; whole numbers are written as uint32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """A weight ``[out, in]`` in ggml's blocks of 32 inputs."""

    type: str
    """ggml's name: ``Q8_0``, ``Q4_0`` or ``Q4_1``."""
    content: NDArray[Any]
    """uint8 ``[out, bytes]``."""
    floats: NDArray[Any]
    """float32 ``[out, in]`` that the model computes with."""
    step: NDArray[Any]
    """float32 ``[out, in]``: the distance of two neighboring values."""


Tensors = Mapping[str, "NDArray[Any] | Blocks"]
"""Tensors by name: arrays of float32 or float16, or blocks."""


def as_blocks(weight: QuantizedWeight, floats: NDArray[Any]) -> Blocks | None:
    """Return a layer's own integers as ggml's blocks.

    8 bits become ``Q8_0``, 4, 3 and 2 bits ``Q4_0``, and with zero points ``Q4_1``. Scales are rounded to float16.

    Args:
        weight: The integers.
        floats: The floats that they stand for, ``[out, in]``.

    Returns:
        The blocks, or ``None`` where a float is all that ggml has: the inputs are no multiple of 32, or float16 does
        not hold the scales.

    Raises:
        UsageError: No block has these groups or zero points.
    """
    import numpy

    bits, size = weight.container_bits, weight.qweight.shape[1]
    if size % BLOCK:
        return None
    if weight.group_size % BLOCK:
        raise UsageError(
            f"{weight.name}: {weight.scheme.bits} bits in groups of {weight.group_size} do not fit GGUF's blocks of "
            f"{BLOCK} inputs; leave group_size out, name a multiple of {BLOCK}, or quantize to 8 bits without groups"
        )
    if bits == 8 and weight.zero_point is not None:
        raise UsageError(
            f"{weight.name}: GGUF has no block of 8 bits with zero points; quantize to 8 bits without, or to 4 bits"
        )
    repeated = weight.group_size // BLOCK
    scale = weight.scale.repeat(repeated, axis=1)
    stored = _float16(scale)
    if stored is None:
        return None
    parts = [stored]
    if weight.zero_point is not None:
        least = (-_MIDDLE - weight.zero_point.astype(numpy.float32)).repeat(repeated, axis=1) * scale
        lows = least.astype(numpy.float16)
        if (numpy.abs(lows.astype(numpy.float32) - least) > scale / 4).any():
            return None
        parts.append(lows)
    values = weight.qweight.reshape(len(weight.qweight), -1, BLOCK)
    parts.append(values.astype(numpy.int8) if bits == 8 else _nibbles(values))
    content = numpy.concatenate([_as_bytes(part) for part in parts], axis=-1)
    return Blocks(
        type="Q8_0" if bits == 8 else "Q4_0" if weight.zero_point is None else "Q4_1",
        content=content.reshape(len(content), -1),
        floats=floats,
        step=scale.repeat(BLOCK, axis=1),
    )


def _float16(scale: NDArray[Any]) -> NDArray[Any] | None:
    import numpy

    with numpy.errstate(over="ignore"):
        stored = scale.astype(numpy.float16)
    error = numpy.abs(stored.astype(numpy.float32) - scale)
    return stored if (error <= _LARGEST_ERROR * scale).all() else None


def _nibbles(values: NDArray[Any]) -> NDArray[Any]:
    """Put the first half of each block in the low bits, and the second half in the high bits."""
    import numpy

    unsigned = (values + _MIDDLE).astype(numpy.uint8)
    packed: NDArray[Any] = unsigned[..., : BLOCK // 2] | (unsigned[..., BLOCK // 2 :] << 4)
    return packed


def _as_bytes(part: NDArray[Any]) -> NDArray[Any]:
    """Return the bytes of one row of values, or of one number, for each block."""
    import numpy

    row = part[..., None] if part.ndim == 2 else part
    content: NDArray[Any] = numpy.ascontiguousarray(row).view(numpy.uint8)
    return content


def write_gguf(path: Path, architecture: str, metadata: Mapping[str, Value], tensors: Tensors) -> None:
    """Write a file, and read it back: no weight may differ from the model's by half a step.

    Args:
        path: The file to write.
        architecture: ``general.architecture``.
        metadata: More metadata, by whole names.
        tensors: The tensors.

    Raises:
        OutputError: The package gguf is not installed, or the file does not hold what was written.
    """
    gguf = require()
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in metadata.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_array(name, list(value))
    for name, tensor in tensors.items():
        if isinstance(tensor, Blocks):
            writer.add_tensor(name, tensor.content, raw_dtype=gguf.GGMLQuantizationType[tensor.type])
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _require_same(GGUFFile(path), tensors)


def _require_same(file: GGUFFile, tensors: Tensors) -> None:
    import numpy

    if set(file.names) != set(tensors):
        raise OutputError(
            f"{file.path.name}: does not have the tensors that were written; is the package gguf damaged?"
        )
    for name, tensor in tensors.items():
        floats, step = (tensor.floats, tensor.step) if isinstance(tensor, Blocks) else (tensor, numpy.float32(0))
        stored = file.floats(name)
        if stored.shape != floats.shape or (numpy.abs(stored - floats) > step / 2).any():
            raise OutputError(f"{file.path.name}: {name} is not the model's; is the package gguf damaged?")


class GGUFFile:
    """A file as the package gguf reads it."""

    def __init__(self, path: Path) -> None:
        """Read the metadata and the places of the tensors.

        Raises:
            OutputError: The package gguf is not installed, or does not read the file.
        """
        gguf = require()
        self.path, self._dequantize = path, gguf.quants.dequantize
        try:
            reader = gguf.GGUFReader(path)
        except Exception as error:  # Of a damaged file it raises whatever NumPy does.
            raise OutputError(f"{path.name}: gguf does not read it ({reason(error)})") from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.metadata: Mapping[str, Any] = {name: field.contents() for name, field in reader.fields.items()}

    @property
    def names(self) -> Iterable[str]:
        """Names of the tensors."""
        return self._tensors.keys()

    def type(self, name: str) -> str:
        """Return ggml's name of the type of a tensor."""
        return str(self._tensors[name].tensor_type.name)

    def floats(self, name: str) -> NDArray[Any]:
        """Return a tensor as float32, in PyTorch's order of axes."""
        tensor = self._tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        values: NDArray[Any] = self._dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        return values


def require() -> Any:
    """Import the package gguf.

    Raises:
        OutputError: It is not installed.
    """
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise OutputError(f"this needs gguf ({error}): pip install 'sottovoce[gguf]'") from None
