"""Building a model without building more than its weights are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from sottovoce.errors import CheckpointError

_ROOM = 1 << 24
"""Numbers that a model may make beside its weights, such as tables of positions."""
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye})
_ELEMENTWISE = frozenset(
    getattr(torch.Tensor, name)
    for name in ("add", "__add__", "__radd__", "mul", "__mul__", "__rmul__", "sub", "__sub__", "__rsub__", "div",
                 "__truediv__", "__rtruediv__", "pow", "__pow__", "__rpow__")
) | {torch.mul, torch.add, torch.sub, torch.div, torch.pow}  # fmt: skip


class BuildingBudget(TorchFunctionMode):
    """Counts what is made while a model is built, and ends that before it takes the memory.

    A configuration is a few words: ten more digits in it ask for a billion layers. The file of the weights says how
    much there can be. Used as a context; it sees the thread that it is entered in alone.
    """

    def __init__(self, where: object, tensors: int, size_bytes: int) -> None:
        """Allow what weights of a size can be for.

        Args:
            where: What to call the model in an error.
            tensors: How many the checkpoint has.
            size_bytes: What they take there; two weights of four bits are a byte.
        """
        super().__init__()
        self._where = where
        self._calls_left = 64 * tensors + 10_000
        self._numbers_left = 4 * size_bytes + 4 * _ROOM
        self._largest = 2 * size_bytes + _ROOM

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count what a call is about to make, and make it.

        Raises:
            CheckpointError: That is more than the weights are for.
        """
        given: dict[str, Any] = kwargs or {}
        if (numbers := _numbers(func, args, given)) is not None:
            self._calls_left -= 1
            self._numbers_left -= numbers if func in _FACTORIES else 0
            if self._calls_left < 0 or self._numbers_left < 0 or numbers > self._largest:
                raise CheckpointError(
                    f"{self._where}: the configuration describes a larger model than the weights are for; "
                    "fetch the model again"
                )
        return func(*args, **given)


def _numbers(func: Callable[..., Any], args: tuple[Any, ...], given: Mapping[str, Any]) -> int | None:
    """How many numbers a call makes; ``None`` for a call that makes no tensor of a size that it is told."""
    try:
        if func is torch.arange:
            return _steps(*args[:3], **{key: given[key] for key in ("start", "end", "step") if key in given})
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
        pass  # The call itself says what is wrong with it.
    return None


def _steps(start: float, end: float | None = None, step: float = 1) -> int:
    first, last = (0.0, start) if end is None else (start, end)
    return max(0, math.ceil((last - first) / step))
