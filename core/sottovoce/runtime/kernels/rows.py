"""Rows quantized to 8 bits, with a scale for each or with a known one, or to 16 bits in two parts."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from torch import Tensor

from sottovoce.runtime.kernels.launch import Kernel
from sottovoce.runtime.kernels.memory import bits_of_float, bytes_, doubles, floats, halves, narrow, share, widen, words

_TINY = numpy.float32(1e-30)
_MAGNITUDE, _INFINITE = numpy.uint16(0x7FFF), numpy.uint16(0x7F80)
_HIGHEST = numpy.float32(127)
_LEAST, _MOST = numpy.float32(0), numpy.float32(255)
_MIDDLE, _ROUNDS = numpy.float32(128), numpy.float32(1.5 * 2**23)
_TO_INTEGER, _TO_BYTE = numpy.float32(1.5 * 2**23), numpy.float32(1.5 * 2**23 + 128)
"""Added to a scaled number, they leave it in the lowest byte of the sum, rounded; the second moved by 128."""


def quantize(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Quantize every row by its range.

    Args:
        x: bfloat16 ``[rows, width]``.

    Returns:
        u8 ``[rows, width]`` with zero at 128, and bfloat16 ``[rows, 1]``, the scales; ``None`` when a value is not
        finite.
    """
    x = x.contiguous()
    values = torch.empty(x.shape, dtype=torch.uint8)
    scale = torch.empty(len(x), 1, dtype=torch.bfloat16)
    *_, wrong = _quantize(x.numel(), x, values, scale, *x.shape, 0)
    return None if wrong else (values, scale)


def quantize_by(x: Tensor, scale: float, zero_point: int) -> Tensor | None:
    """Quantize by a range that is known beforehand; what lies outside is clipped.

    Args:
        x: bfloat16 ``[rows, width]``.
        scale: Scale of the quantized values.
        zero_point: Quantized value that stands for zero, 0 to 255.

    Returns:
        u8 ``[rows, width]``; ``None`` when a value is not finite.
    """
    x = x.contiguous()
    values = torch.empty(x.shape, dtype=torch.uint8)
    # A factor in float32, as PyTorch has it.
    factor = float(numpy.float32(1) / numpy.float32(scale))
    *_, wrong = _quantize_by(x.numel(), x, values, factor, zero_point, *x.shape, 0)
    return None if wrong else values


def quantize_wide_by(x: Tensor, scale: float, zero_point: int) -> tuple[Tensor, Tensor]:
    """Quantize by a known range, and what that leaves over by a 254th of its scale.

    Args:
        x: Contiguous float32 ``[rows, width]``, finite.
        scale: Scale of the first part; what lies outside its range is clipped.
        zero_point: Value of the first part that stands for zero, 0 to 255.

    Returns:
        Two of u8 ``[rows, width]``; the second has zero at 128.
    """
    first, rest = torch.empty(2, *x.shape, dtype=torch.uint8)
    factors = [float(1 / numpy.float32(step)) for step in (scale, scale / 254)]
    _quantize_wide_by(x.numel(), x, first, rest, float(numpy.float32(scale)), *factors, zero_point, *x.shape)
    return first, rest


@Kernel
def _quantize(address: Any) -> None:
    given = words(address, 6)
    rows, width = given[3], given[4]
    scale = halves(given[2], 0, rows)
    first, last = share(rows)
    for row in range(first, last):
        x, values = halves(given[0], row, width), bytes_(given[1], row, width)
        # Without their sign bfloat16 numbers order as their bits do.
        largest = numpy.uint16(0)
        for column in range(width):
            largest = max(largest, numpy.uint16(x[column] & _MAGNITUDE))
        if largest >= _INFINITE:
            given[5] = 1
        # Rounded before it divides: the product is then scaled back by the very same number.
        exact = widen(narrow(widen(largest) / _HIGHEST))
        scale[row] = narrow(_TINY if exact < _TINY else exact)
        factor = numpy.float32(1) / widen(scale[row])
        for column in range(width):
            values[column] = numpy.uint8(bits_of_float(widen(x[column]) * factor + _TO_BYTE))


@Kernel
def _quantize_by(address: Any) -> None:
    given = words(address, 7)
    rows, width = given[4], given[5]
    factor, zero_point = numpy.float32(doubles(address, 7)[2]), numpy.float32(given[3])
    first, last = share(rows)
    for row in range(first, last):
        x, values = halves(given[0], row, width), bytes_(given[1], row, width)
        largest = numpy.uint16(0)
        for column in range(width):
            largest = max(largest, numpy.uint16(x[column] & _MAGNITUDE))
            scaled = min(max(widen(x[column]) * factor + zero_point, _LEAST), _MOST)
            values[column] = numpy.uint8(bits_of_float(scaled + _TO_INTEGER))
        if largest >= _INFINITE:
            given[6] = 1


@Kernel
def _quantize_wide_by(address: Any) -> None:
    given, numbers = words(address, 9), doubles(address, 9)
    scale, factor, finer = numpy.float32(numbers[3]), numpy.float32(numbers[4]), numpy.float32(numbers[5])
    zero_point, rows, width = numpy.float32(given[6]), given[7], given[8]
    begin, end = share(rows)
    for row in range(begin, end):
        x, values, rest = floats(given[0], row, width), bytes_(given[1], row, width), bytes_(given[2], row, width)
        for column in range(width):
            # The sum has no room for fractions, so that it is rounded.
            nearest = numpy.float32(x[column] * factor + _ROUNDS) - _ROUNDS
            value = min(max(nearest + zero_point, _LEAST), _MOST)
            left = x[column] - (value - zero_point) * scale
            nearest = numpy.float32(left * finer + _ROUNDS) - _ROUNDS
            values[column] = numpy.uint8(bits_of_float(value + _ROUNDS))
            rest[column] = numpy.uint8(bits_of_float(min(max(nearest + _MIDDLE, _LEAST), _MOST) + _ROUNDS))
