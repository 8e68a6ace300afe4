"""Normalization by the root mean square, in one pass."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy
import torch
from torch import Tensor

from sottovoce.runtime.kernels.launch import Kernel
from sottovoce.runtime.kernels.memory import doubles, halves, narrow, share, widen, words


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute ``x / sqrt(mean(x ** 2) + epsilon)``, rounded to bfloat16, times ``weight``.

    Args:
        x: bfloat16 ``[..., width]``.
        weight: bfloat16 ``[width]``.
        epsilon: Added to the mean of the squares.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    _rms_norm(x.numel(), x, out, weight.expand(width).contiguous(), epsilon, x.numel() // max(width, 1), width)
    return out


@functools.partial(Kernel, fastmath=frozenset({"reassoc"}))  # The sum may be taken in any order.
def _rms_norm(address: Any) -> None:
    given = words(address, 6)
    rows, width = given[4], given[5]
    weight, epsilon = halves(given[2], 0, width), numpy.float32(doubles(address, 6)[3])
    first, last = share(rows)
    for row in range(first, last):
        x, out = halves(given[0], row, width), halves(given[1], row, width)
        total = numpy.float32(0)
        for column in range(width):
            total += widen(x[column]) * widen(x[column])
        factor = numpy.float32(1) / numpy.float32(math.sqrt(total / numpy.float32(width) + epsilon))
        for column in range(width):
            out[column] = narrow(widen(narrow(widen(x[column]) * factor)) * widen(weight[column]))
