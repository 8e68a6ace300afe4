"""The layout of onnxruntime's ``MatMulNBits``: weights of 4 or 8 bits in blocks of inputs, a scale for each block.

Values of 2 and 3 bits are stored in 4: onnxruntime has no product for 3, and for 2 only since a late version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sottovoce.formats.quantized_weights import QuantizedWeight

_SIZES = (128, 64, 32, 16)
"""Inputs of a block."""
_SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """A weight ``[out, in]`` in blocks; the last of each row is filled up."""

    size: int
    """Inputs of a block."""
    values: NDArray[Any]
    """uint8 ``[out, blocks, size * bits / 8]``; of two values in a byte, the first is in the lower half."""
    scales: NDArray[Any]
    """float32 ``[out, blocks]``."""
    zero_points: NDArray[Any] | None
    """uint8 ``[out, blocks * bits / 8]``; ``None`` is the middle, 8 or 128."""


def block_size(weight: QuantizedWeight) -> int | None:
    """Return the size of blocks that a weight's groups are made of; ``None`` where they are of no such size."""
    width, group = weight.qweight.shape[1], weight.group_size
    if width == group:
        # All blocks have one scale, so any size does: the one that takes the least, with what fills up the last block.
        return min(_SIZES, key=lambda size: -(-width // size) * (size * weight.container_bits // 8 + _SCALE_BYTES))
    return next((size for size in _SIZES if group % size == 0), None)


def to_blocks(weight: QuantizedWeight, size: int) -> Blocks:
    """Lay a weight out in blocks, with the scale of its group repeated for each; no value changes.

    Args:
        weight: Quantized values.
        size: What :func:`block_size` returned.
    """
    import numpy

    rows, width = weight.qweight.shape
    bits, middle = weight.container_bits, 1 << (weight.container_bits - 1)
    count = -(-width // size)
    repeats = -(-count // weight.scale.shape[1])
    stored = numpy.full((rows, count * size), middle, numpy.uint8)
    stored[:, :width] = weight.qweight.astype(numpy.int16) + middle
    zero_points = None
    if weight.zero_point is not None:
        points = numpy.repeat(weight.zero_point.astype(numpy.int16) + middle, repeats, axis=1)
        zero_points = _packed(points.astype(numpy.uint8), bits)
        stored[:, width:] = points[:, -1:]
    values = _packed(stored, bits).reshape(rows, count, -1)
    scales = numpy.repeat(weight.scale, repeats, axis=1)
    return Blocks(size=size, values=values, scales=scales, zero_points=zero_points)


def _packed(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Pack uint8 ``[rows, columns]`` into bytes."""
    import numpy

    if bits == 8:
        return values
    if values.shape[1] % 2:
        values = numpy.pad(values, ((0, 0), (0, 1)))
    packed: NDArray[Any] = values[:, 0::2] | (values[:, 1::2] << 4)
    return packed
