"""The text layers' rotary embedding in fewer passes over queries and keys than the library's five.

A compiled kernel takes one, and rounds where the library does. Without it there are two, one for each half, and one
rounding less.

The library's attention finds its function by name among its module's. It is left as it is there: a layer that is
optimized runs the library's own code with another function of that name.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.runtime.kernels.availability import takes
from sottovoce_forced_aligner.derived import derive

_NAME = "apply_rotary_pos_emb"


def install_(layer: nn.Module) -> bool:
    """Have a transformers attention layer turn its queries and keys so.

    Returns:
        True if it has a rotary embedding of the known kind.
    """
    kind: Any = type(layer)
    forward = vars(kind).get("forward")
    plain = isinstance(forward, types.FunctionType) and not forward.__closure__
    if not plain or _NAME not in forward.__code__.co_names or _NAME not in forward.__globals__:
        return False
    layer.__class__ = _by_halves(kind)
    return True


@functools.cache
def _by_halves(kind: type[Any]) -> type[nn.Module]:
    """Return the class of layers like ``kind`` that turn by halves."""
    forward: Any = vars(kind)["forward"]
    names = {**forward.__globals__, _NAME: _rotary(forward.__globals__[_NAME])}
    copied = types.FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__)
    copied.__kwdefaults__ = forward.__kwdefaults__
    return derive(kind, copied, _by_halves)


def _rotary(library: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    @functools.wraps(library)
    def turn(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *options: Any, **named: Any) -> tuple[Tensor, Tensor]:
        recorded = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
        alike = {tensor.dtype for tensor in (q, k, cos, sin)} == {torch.bfloat16} and q.shape[-1] == cos.shape[-1]
        if options or named or recorded or not alike or q.device.type != "cpu":
            return library(q, k, cos, sin, *options, **named)
        if takes(q, k, cos, sin):
            from sottovoce.runtime.kernels.rotary import turn as turned

            return turned(q, cos, sin), turned(k, cos, sin)
        half = q.shape[-1] // 2
        # Both halves of the tables are the same.
        tables = cos[:, None, :, :half], sin[:, None, :, :half]
        return _turned(q, *tables), _turned(k, *tables)

    return turn


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    low, high, out = x[..., :half], x[..., half:], torch.empty_like(x)
    torch.mul(low, cos, out=out[..., :half]).addcmul_(high, sin, value=-1)
    torch.mul(high, cos, out=out[..., half:]).addcmul_(low, sin)
    return out
