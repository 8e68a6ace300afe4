"""Integers of 2, 3, 4 and 8 bits in 32-bit words, as compressed-tensors lays them (``pack-quantized``)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pack(qweight: Tensor, bits: int) -> Tensor:
    """Lay the s8 values of each row end to end, from the lowest bit of the first word on.

    A value of 3 bits may lie in two words.

    Args:
        qweight: s8 ``[rows, columns]`` within the range of ``bits``.
        bits: 2, 3, 4 or 8.

    Returns:
        int32 ``[rows, words]``; what the last word of a row has beyond the columns is zero.
    """
    columns = qweight.shape[1]
    bytes_ = (qweight.to(torch.int16) + (1 << (bits - 1))).to(torch.uint8)
    if bits < 8:
        bytes_ = _joined(bytes_, bits)
    # Three bytes of a row's last eight values may be more than the words that hold them, or less.
    missing = 4 * words(columns, bits) - bytes_.shape[1]
    return _view_rows(torch.nn.functional.pad(bytes_, (0, missing)).contiguous(), torch.int32)


def unpack(words: Tensor, bits: int, columns: int) -> Tensor:
    """Return the s8 values ``[rows, columns]`` that :func:`pack` was given."""
    bytes_ = _view_rows(words, torch.uint8)
    if bits == 8:
        # Flipping the highest of 8 bits subtracts 128; fewer bits have room to subtract.
        return (bytes_ ^ 128).view(torch.int8)[:, :columns]
    return _parted(bytes_, bits)[:, :columns].view(torch.int8) - (1 << (bits - 1))


def words(columns: int, bits: int) -> int:
    """Return the number of 32-bit words that hold a row."""
    return -(-columns * bits // 32)


def _joined(values: Tensor, bits: int) -> Tensor:
    """Join u8 values of few bits to whole bytes."""
    together, size = _unit(bits)
    values = torch.nn.functional.pad(values, (0, -values.shape[1] % together))
    dtype = torch.uint8 if size == 1 else torch.int32
    joined = values[:, ::together].to(dtype)
    for place in range(1, together):
        joined = joined | (values[:, place::together].to(dtype) << (bits * place))
    return _view_rows(joined, torch.uint8).view(*joined.shape, joined.itemsize)[..., :size].flatten(1)


def _parted(bytes_: Tensor, bits: int) -> Tensor:
    """Part bytes into u8 values of few bits, as many as there may be."""
    together, size = _unit(bits)
    joined = bytes_
    if size > 1:
        count = -(-bytes_.shape[1] // size)
        padded = torch.nn.functional.pad(bytes_, (0, count * size - bytes_.shape[1]))
        units = padded.view(len(bytes_), count, size)
        joined = units[..., 0].to(torch.int32)
        for place in range(1, size):
            joined = joined | (units[..., place].to(torch.int32) << (8 * place))
    mask = (1 << bits) - 1
    values = [((joined >> (bits * place)) & mask).to(torch.uint8) for place in range(together)]
    return torch.stack(values, -1).flatten(1)


def _unit(bits: int) -> tuple[int, int]:
    """Return how many values fill whole bytes, and how many bytes those are."""
    together = 8 // math.gcd(8, bits)
    return together, together * bits // 8


def _view_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    # Flat in between: the stride of a dimension of size one may be anything, and torch minds it.
    return rows.reshape(-1).view(dtype).view(rows.shape[0], rows.shape[1] * rows.itemsize // dtype.itemsize)
