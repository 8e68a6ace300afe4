"""Dequantization of integer and fp8 weights, in one pass."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from numba import njit
from torch import Tensor

from sottovoce.runtime.kernels.launch import Kernel
from sottovoce.runtime.kernels.memory import (
    bits_of_float,
    bytes_,
    float_of_bits,
    floats,
    halves,
    read,
    row_like,
    share,
    words,
    write,
)

_NIBBLE, _FOUR = numpy.uint8(15), numpy.uint8(4)
_BYTE, _HALF = 8, 4
"""Bits."""
_MAGNITUDE, _NORMAL, _NAN = numpy.uint32(0x7F), numpy.uint32(8), numpy.float32(numpy.nan)
_EXPONENT, _20, _24, _SIGN = numpy.uint32(120 << 23), numpy.uint32(20), numpy.uint32(24), numpy.uint32(1 << 31)
"""An fp8 number has 7 in the place of a float32's 127, and 20 bits less behind the point."""
_SUBNORMAL = numpy.float32(2.0**-9)


def dequantize(
    packed: Tensor, bits: int, columns: int, scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """Compute ``(value - zero_point) * scale`` in ``dtype``.

    Args:
        packed: int32 ``[out, words]``, as :mod:`sottovoce.runtime.packing` lays quantized values.
        bits: 2, 3, 4 or 8.
        columns: Number of values in a row.
        scale: Float ``[out, groups]``.
        zero_point: Whole numbers ``[out, groups]``; ``None`` is zero.
        dtype: bfloat16 or float32.

    Returns:
        ``[out, columns]``.

    Raises:
        ValueError: The words are not those of so many values, or the groups not equally large.
    """
    rows, groups = scale.shape
    if packed.shape != (rows, -(-columns * bits // 32)) or columns % groups:
        raise ValueError(f"words {tuple(packed.shape)} and scales {tuple(scale.shape)}, of {columns} columns")
    out = torch.empty(rows, columns, dtype=dtype)
    scale = scale.to(dtype).contiguous()
    # Stored values are moved by half of their range.
    shift = 1 << (bits - 1)
    zero = torch.full((rows, groups), shift) if zero_point is None else zero_point + shift
    kernel = _to_bfloat16 if dtype == torch.bfloat16 else _to_float32
    zero = zero.float().contiguous()
    kernel(out.numel(), packed.contiguous(), out, scale, zero, bits, rows, columns, groups, packed.shape[1])
    return out


def dequantize_float8(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute ``weight * scale`` in ``dtype``.

    Args:
        weight: float8_e4m3fn ``[out, in]``.
        scale: Float ``[out, 1]``.
        dtype: bfloat16 or float32.
    """
    rows, width = weight.shape
    out = torch.empty(rows, width, dtype=dtype)
    kernel = _float8_to_bfloat16 if dtype == torch.bfloat16 else _float8_to_float32
    kernel(out.numel(), weight.contiguous(), out, scale.to(dtype).reshape(rows).contiguous(), rows, width)
    return out


@njit  # type: ignore[untyped-decorator]
def _dequantize(address: Any, kind: Any) -> None:
    """Dequantize to the kind of numbers that a row of them has."""
    given = words(address, 9)
    bits, rows, columns, groups = given[4], given[5], given[6], given[7]
    size = columns // groups
    first, last = share(rows)
    for row in range(first, last):
        scale, zero = row_like(kind, given[2], row, groups), floats(given[3], row, groups)
        for group in range(groups):
            factor, middle = read(scale, group), zero[group]
            out = row_like(kind, given[1] + kind.itemsize * group * size, row, columns)
            stored = bytes_(given[0] + group * size * bits // _BYTE, row, 4 * given[8])
            if bits == _BYTE:
                for place in range(size):
                    write(out, place, (numpy.float32(stored[place]) - middle) * factor)
            elif bits == _HALF and size % 2 == 0:
                for pair in range(size // 2):
                    write(out, 2 * pair, (numpy.float32(stored[pair] & _NIBBLE) - middle) * factor)
                    write(out, 2 * pair + 1, (numpy.float32(stored[pair] >> _FOUR) - middle) * factor)
            else:
                _dequantize_any(out, stored, bits, size, group * size * bits % _BYTE, middle, factor)


@njit  # type: ignore[untyped-decorator]
def _dequantize_any(out: Any, stored: Any, bits: Any, size: Any, first: Any, middle: Any, factor: Any) -> None:
    """Dequantize a group of values of any width, of which the first begins at a bit of the first byte."""
    mask = (1 << bits) - 1
    for place in range(size):
        bit = first + place * bits
        shift = bit % _BYTE
        value = numpy.int64(stored[bit // _BYTE]) >> shift
        if shift + bits > _BYTE:
            value |= numpy.int64(stored[bit // _BYTE + 1]) << (_BYTE - shift)
        write(out, place, (numpy.float32(value & mask) - middle) * factor)


@Kernel
def _to_bfloat16(address: Any) -> None:
    _dequantize(address, halves(address, 0, 0))


@Kernel
def _to_float32(address: Any) -> None:
    _dequantize(address, floats(address, 0, 0))


@njit  # type: ignore[untyped-decorator]
def _of_float8(stored: Any) -> Any:
    """Return the float32 of an e4m3 number without infinities, given as its bits."""
    bits = numpy.uint32(stored)
    magnitude = numpy.uint32(bits & _MAGNITUDE)
    sign = numpy.uint32(numpy.uint32(bits << _24) & _SIGN)
    normal = float_of_bits(numpy.uint32(numpy.uint32(magnitude << _20) + _EXPONENT))
    number = normal if magnitude >= _NORMAL else numpy.float32(magnitude) * _SUBNORMAL
    number = _NAN if magnitude == _MAGNITUDE else number
    return float_of_bits(numpy.uint32(bits_of_float(number) | sign))


@njit  # type: ignore[untyped-decorator]
def _dequantize_float8(address: Any, kind: Any) -> None:
    """Dequantize to the kind of numbers that a row of them has."""
    given = words(address, 5)
    rows, width = given[3], given[4]
    scale = row_like(kind, given[2], 0, rows)
    first, last = share(rows)
    for row in range(first, last):
        stored, out, factor = bytes_(given[0], row, width), row_like(kind, given[1], row, width), read(scale, row)
        for column in range(width):
            write(out, column, _of_float8(stored[column]) * factor)


@Kernel
def _float8_to_bfloat16(address: Any) -> None:
    _dequantize_float8(address, halves(address, 0, 0))


@Kernel
def _float8_to_float32(address: Any) -> None:
    _dequantize_float8(address, floats(address, 0, 0))
