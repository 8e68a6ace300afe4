"""Integers of 4 and 8 bits in 32-bit words, as compressed-tensors lays them (``pack-quantized``)."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(qweight: Tensor, bits: int) -> Tensor:
    """Lay the s8 values of each row end to end, from the lowest bit of the first word on.

    Args:
        qweight: s8 ``[rows, columns]`` within the range of ``bits``.
        bits: 4 or 8.

    Returns:
        int32 ``[rows, words]``; what the last word of a row has beyond the columns is zero.
    """
    shifted = (qweight.to(torch.int16) + (1 << (bits - 1))).to(torch.uint8)
    bytes_ = torch.nn.functional.pad(shifted, (0, -shifted.shape[1] % (32 // bits)))
    if bits == 4:
        bytes_ = bytes_[:, ::2] | (bytes_[:, 1::2] << 4)
    return _view_rows(bytes_, torch.int32)


def unpack(words: Tensor, bits: int, columns: int) -> Tensor:
    """Return the s8 values ``[rows, columns]`` that :func:`pack` was given."""
    bytes_ = _view_rows(words, torch.uint8)
    if bits == 4:
        bytes_ = torch.stack((bytes_ & 15, bytes_ >> 4), -1).flatten(1)
    # Flipping the highest of 8 bits subtracts 128; 4 bits have room to subtract 8.
    qweight = (bytes_ ^ 128).view(torch.int8) if bits == 8 else bytes_.view(torch.int8) - 8
    return qweight[:, :columns]


def words(columns: int, bits: int) -> int:
    """Return the number of 32-bit words that hold a row."""
    return -(-columns * bits // 32)


def _view_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    # Flat in between: the stride of a dimension of size one may be anything, and torch minds it.
    return rows.reshape(-1).view(dtype).view(rows.shape[0], rows.shape[1] * rows.itemsize // dtype.itemsize)
