"""Integers of 4 and 8 bits in 32-bit words, as compressed-tensors lays them (``pack-quantized``)."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(steps: Tensor, bits: int) -> Tensor:
    """Lay the s8 steps of each row end to end, from the lowest bit of the first word on.

    Args:
        steps: s8 ``[rows, columns]`` within the range of ``bits``.
        bits: 4 or 8.

    Returns:
        int32 ``[rows, words]``; what the last word of a row has beyond the columns is zero.
    """
    shifted = (steps.to(torch.int16) + (1 << (bits - 1))).to(torch.uint8)
    bytes_ = torch.nn.functional.pad(shifted, (0, -shifted.shape[1] % (32 // bits)))
    if bits == 4:
        bytes_ = bytes_[:, ::2] | (bytes_[:, 1::2] << 4)
    return _as(torch.int32, bytes_)


def unpack(words: Tensor, bits: int, columns: int) -> Tensor:
    """The s8 steps ``[rows, columns]`` that :func:`pack` was given."""
    bytes_ = _as(torch.uint8, words)
    if bits == 4:
        bytes_ = torch.stack((bytes_ & 15, bytes_ >> 4), -1).flatten(1)
    # Moving the range by half of it is turning the highest bit round, for 8 bits; 4 bits have room to subtract.
    steps = (bytes_ ^ 128).view(torch.int8) if bits == 8 else bytes_.view(torch.int8) - 8
    return steps[:, :columns]


def words(columns: int, bits: int) -> int:
    """How many 32-bit words hold a row."""
    return -(-columns * bits // 32)


def _as(dtype: torch.dtype, rows: Tensor) -> Tensor:
    # Flat in between: the stride of a dimension of size one may be anything, and torch minds it.
    return rows.reshape(-1).view(dtype).view(rows.shape[0], rows.shape[1] * rows.itemsize // dtype.itemsize)
