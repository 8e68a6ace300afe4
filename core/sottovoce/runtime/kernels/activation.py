"""Activation functions by a table of all bfloat16 numbers: whatever the function, as exact as the library has it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor

from sottovoce.runtime.kernels.launch import Kernel
from sottovoce.runtime.kernels.memory import halves, narrow, share, widen, words

_NUMBERS = 1 << 16

Function = Callable[[Tensor], Tensor]


def activate(x: Tensor, function: Function) -> Tensor:
    """Compute ``function(x)``.

    Args:
        x: bfloat16.
        function: Treats every number by itself, and always alike.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    _activate(x.numel(), x, out, _table(function), x.numel())
    return out


def activate_times_(gate: Tensor, up: Tensor, function: Function, scale: Tensor | None = None) -> Tensor:
    """Compute ``function(gate) * up`` in the place of ``gate``, rounding to bfloat16 after every operation.

    Args:
        gate: Contiguous bfloat16 ``[..., width]``.
        up: bfloat16 of the same shape.
        function: Treats every number by itself, and always alike.
        scale: bfloat16, one number a row: both are multiplied by it first.
    """
    rows, width = gate.view(-1, gate.shape[-1]).shape
    scale = None if scale is None else scale.reshape(rows)
    _activate_times(gate.numel(), gate, up.expand_as(gate).contiguous(), _table(function), scale, rows, width)
    return gate


@functools.lru_cache(maxsize=16)
def _table(function: Function) -> Tensor:
    """Tabulate a function of all bfloat16 numbers, in the order of their bits: 128 KB."""
    with torch.inference_mode():
        return function(torch.arange(_NUMBERS).to(torch.uint16).view(torch.bfloat16)).contiguous()


@Kernel
def _activate(address: Any) -> None:
    given = words(address, 4)
    first, last = share(given[3])
    x, out = halves(given[0] + 2 * first, 0, last - first), halves(given[1] + 2 * first, 0, last - first)
    table = halves(given[2], 0, _NUMBERS)
    for place in range(last - first):
        out[place] = table[x[place]]


@Kernel
def _activate_times(address: Any) -> None:
    given = words(address, 6)
    rows, width = given[4], given[5]
    table, scale = halves(given[2], 0, _NUMBERS), halves(given[3], 0, rows)
    first, last = share(rows)
    for row in range(first, last):
        gate, up = halves(given[0], row, width), halves(given[1], row, width)
        factor = numpy.float32(1)
        if given[3]:
            factor = widen(scale[row])
            for column in range(width):
                gate[column] = narrow(widen(gate[column]) * factor)
        # Apart, since looking up goes one by one and multiplying does not.
        for column in range(width):
            gate[column] = table[gate[column]]
        for column in range(width):
            gate[column] = narrow(widen(gate[column]) * widen(narrow(widen(up[column]) * factor)))
