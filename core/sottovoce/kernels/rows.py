"""Rows of bfloat16 rounded to 8 bits, with a scale each."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from torch import Tensor

from sottovoce.kernels.launch import Kernel
from sottovoce.kernels.memory import bits_of_float, bytes_, halves, narrow, share, widen, words

_TINY = numpy.float32(1e-30)
_MAGNITUDE, _INFINITE = numpy.uint16(0x7FFF), numpy.uint16(0x7F80)
_STEPS = numpy.float32(127)
_TO_BYTE = numpy.float32(1.5 * 2**23 + 128)
"""Added to a number of steps, it leaves them in the lowest byte of the sum, rounded and moved by 128."""


def quantize(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Round every row by its own range.

    Args:
        x: bfloat16 ``[rows, width]``.

    Returns:
        u8 ``[rows, width]`` with zero at 128, and bfloat16 ``[rows, 1]``, the size of a step; ``None`` when a value is
        not finite.
    """
    x = x.contiguous()
    values = torch.empty(x.shape, dtype=torch.uint8)
    scale = torch.empty(len(x), 1, dtype=torch.bfloat16)
    *_, wrong = _quantize(x.numel(), x, values, scale, *x.shape, 0)
    return None if wrong else (values, scale)


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
        step = widen(narrow(widen(largest) / _STEPS))
        scale[row] = narrow(_TINY if step < _TINY else step)
        factor = numpy.float32(1) / widen(scale[row])
        for column in range(width):
            values[column] = numpy.uint8(bits_of_float(widen(x[column]) * factor + _TO_BYTE))
