"""The rotary embedding of queries or keys, in one pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sottovoce.runtime.kernels.launch import Kernel
from sottovoce.runtime.kernels.memory import halves, narrow, share, widen, words


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Compute ``x * cos + (-high, low) * sin``, where low and high are the halves of ``x``; each product is rounded.

    Args:
        x: bfloat16 ``[batch, heads, length, width]``; the numbers of a head lie together.
        cos: bfloat16 ``[batch or 1, length, width]``.
        sin: As ``cos``.
    """
    x = x if x.stride(-1) == 1 else x.contiguous()
    out = torch.empty_like(x)
    cos, sin = (table.expand(len(x), *x.shape[2:]).contiguous() for table in (cos, sin))
    _turn(x.numel(), x, out, cos, sin, *x.shape, *x.stride()[:3], *out.stride()[:3])
    return out


@Kernel
def _turn(address: Any) -> None:
    given = words(address, 14)
    batch, heads, length, width = given[4], given[5], given[6], given[7]
    half = width // 2
    first, last = share(batch * length)
    for position in range(first, last):
        item, place = position // length, position % length
        cos = halves(given[2], position, width)
        sin = halves(given[3], position, width)
        for head in range(heads):
            x = halves(given[0] + 2 * (item * given[8] + head * given[9] + place * given[10]), 0, width)
            out = halves(given[1] + 2 * (item * given[11] + head * given[12] + place * given[13]), 0, width)
            for low in range(half):
                high = half + low
                real, imaginary = widen(x[low]), widen(x[high])
                kept, moved = widen(narrow(real * widen(cos[low]))), widen(narrow(-imaginary * widen(sin[low])))
                out[low] = narrow(kept + moved)
                kept, moved = widen(narrow(imaginary * widen(cos[high]))), widen(narrow(real * widen(sin[high])))
                out[high] = narrow(kept + moved)
