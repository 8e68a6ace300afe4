"""Packed integer weights made float, in one pass."""

from __future__ import annotations

from typing import Any

import numpy
import torch
from numba import njit
from torch import Tensor

from sottovoce.kernels.launch import Kernel
from sottovoce.kernels.memory import bytes_, floats, halves, read, row_like, share, words, write

_NIBBLE, _FOUR = numpy.uint8(15), numpy.uint8(4)


def dequantize(
    packed: Tensor, bits: int, columns: int, scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """``(step - zero_point) * scale``, computed in ``dtype``.

    Args:
        packed: int32 ``[out, words]``, as :mod:`sottovoce.formats.packing` lays steps.
        bits: 4 or 8.
        columns: Steps in a row, an even number of them in a group.
        scale: Float ``[out, groups]``.
        zero_point: Whole numbers ``[out, groups]``; ``None`` is zero.
        dtype: bfloat16 or float32.

    Returns:
        ``[out, columns]``.

    Raises:
        ValueError: The words are not those of so many steps, or the groups not equally large.
    """
    rows, groups = scale.shape
    if packed.shape != (rows, -(-columns * bits // 32)) or columns % groups:
        raise ValueError(f"words {tuple(packed.shape)} and scales {tuple(scale.shape)} of {columns} columns")
    out = torch.empty(rows, columns, dtype=dtype)
    scale = scale.to(dtype).contiguous()
    # What is stored is moved by half of the range.
    shift = 1 << (bits - 1)
    zero = torch.full((rows, groups), shift) if zero_point is None else zero_point + shift
    kernel = _to_bfloat16 if dtype == torch.bfloat16 else _to_float32
    zero = zero.float().contiguous()
    kernel(out.numel(), packed.contiguous(), out, scale, zero, bits, rows, columns, groups, packed.shape[1])
    return out


@njit  # type: ignore[untyped-decorator]
def _dequantize(address: Any, kind: Any) -> None:
    """To a kind of numbers, that of a row of them."""
    given = words(address, 9)
    bits, rows, columns, groups = given[4], given[5], given[6], given[7]
    size = columns // groups
    first, last = share(rows)
    for row in range(first, last):
        scale, zero = row_like(kind, given[2], row, groups), floats(given[3], row, groups)
        for group in range(groups):
            step, middle = read(scale, group), zero[group]
            out = row_like(kind, given[1] + kind.itemsize * group * size, row, columns)
            stored = bytes_(given[0] + group * size * bits // 8, row, 4 * given[8])
            if bits == 8:
                for place in range(size):
                    write(out, place, (numpy.float32(stored[place]) - middle) * step)
            else:
                for pair in range(size // 2):
                    write(out, 2 * pair, (numpy.float32(stored[pair] & _NIBBLE) - middle) * step)
                    write(out, 2 * pair + 1, (numpy.float32(stored[pair] >> _FOUR) - middle) * step)


@Kernel
def _to_bfloat16(address: Any) -> None:
    _dequantize(address, halves(address, 0, 0))


@Kernel
def _to_float32(address: Any) -> None:
    _dequantize(address, floats(address, 0, 0))
