"""Random weights that are not drawn where there is no memory for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset({"normal_", "uniform_", "kaiming_normal_", "kaiming_uniform_"})
"""Names of functions: methods of tensors, and the functions of ``torch.nn.init`` that call them out of sight."""


class Undrawn(TorchFunctionMode):
    """Mode, of one thread, in which drawing numbers for a tensor without data does nothing.

    PyTorch does it by its reference functions in Python: a millisecond each, and more than a second for the compiler
    that the first of them imports.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, unless it would draw for nothing."""
        given = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            tensor = args[0] if args else given.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **given)
