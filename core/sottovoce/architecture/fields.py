"""Values of the records, and functions that are imported when they are called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def check_tuple(name: str, value: object) -> None:
    """Refuse a string in place of several names.

    Raises:
        TypeError: The value is a string.
    """
    if isinstance(value, str):
        raise TypeError(f"{name} takes a tuple of names or patterns: write ({value!r},)")


def lazy(reference: str) -> Callable[..., Any]:
    """Return a function that imports ``module:name`` when it is called, and calls it.

    The description of a family must not import torch or a model library; the functions that need them may.
    """
    module, _, name = reference.partition(":")

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    return call
