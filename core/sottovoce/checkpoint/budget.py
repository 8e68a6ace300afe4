"""Limit on the tensors that building a model may create, derived from the size of its weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from sottovoce.errors import CheckpointError

_ROOM = 1 << 24
"""Elements that a model may create besides its weights, such as position tables."""
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye})
_OPERATORS = ("add", "radd", "mul", "rmul", "sub", "rsub", "truediv", "rtruediv", "pow", "rpow")
_ELEMENTWISE = frozenset(
    {getattr(torch.Tensor, f"__{name}__") for name in _OPERATORS}
    | {getattr(torch.Tensor, name) for name in ("add", "mul", "sub", "div", "pow")}
    | {torch.mul, torch.add, torch.sub, torch.div, torch.pow}
)


class BuildingBudget(TorchFunctionMode):
    """Context that counts the tensors created while a model is built, and stops it before it fills the memory.

    A configuration is short: ten more digits in it ask for a billion layers. The size of the weights file bounds what a
    valid configuration can ask for. The context counts the tensors of the thread that enters it only.
    """

    def __init__(self, where: object, tensors: int, size_bytes: int) -> None:
        """Set the limits by the size of the checkpoint.

        Args:
            where: Name of the model in an error.
            tensors: Number of tensors in the checkpoint.
            size_bytes: Their size there; two 4-bit weights take one byte.
        """
        super().__init__()
        self._where = where
        self._calls_left = 64 * tensors + 10_000
        self._numbers_left = 4 * size_bytes + 4 * _ROOM
        self._largest = 2 * size_bytes + _ROOM

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count the elements that a call is about to create, and call it.

        Raises:
            CheckpointError: A limit is exceeded.
        """
        given: dict[str, Any] = kwargs or {}
        if (numbers := _numbers(func, args, given)) is not None:
            self._calls_left -= 1
            self._numbers_left -= numbers if func in _FACTORIES else 0
            if self._calls_left < 0 or self._numbers_left < 0 or numbers > self._largest:
                raise CheckpointError(
                    f"{self._where}: the configuration describes a larger model than the weights belong to; "
                    "fetch the model again"
                )
        return func(*args, **given)


def _numbers(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> int | None:
    """Return the number of elements that a call creates; ``None`` for a call whose size is not in its arguments."""
    try:
        if func is torch.arange:
            return _range_length(*args[:3], **{key: given[key] for key in ("start", "end", "step") if key in given})
        if func in _FACTORIES:
            size = given.get("size", args)
            size = size[0] if len(size) and isinstance(size[0], list | tuple) else size
            return math.prod(number for number in size if isinstance(number, int))
        if func is torch.outer:
            return math.prod(int(vector.numel()) for vector in args)
        if func in _ELEMENTWISE:
            shapes = [tuple(value.shape) for value in args if isinstance(value, torch.Tensor)]
            return math.prod(np.broadcast_shapes(*shapes))
    except (TypeError, ValueError, AttributeError, RuntimeError, ZeroDivisionError, OverflowError):
        pass  # the call itself raises the error
    return None


def _range_length(start: float, end: float | None = None, step: float = 1) -> int:
    first, last = (0.0, start) if end is None else (start, end)
    return max(0, math.ceil((last - first) / step))
