"""Layers of a library with one method of another kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

Kind = type[nn.Module]


def derive(kind: Kind, forward: Callable[..., Any], made_by: Callable[..., Kind]) -> Kind:
    """Return the class of layers like ``kind`` with another ``forward``; copies and pickles of a layer keep its class.

    A class that was derived so already is returned as it is.

    Args:
        kind: The library's class.
        forward: The method.
        made_by: A function of a module that returns this class for ``kind``.
    """
    if getattr(kind, "_made_by", None) == (made_by,):
        return kind

    def reduced(layer: nn.Module, _: object) -> tuple[Any, ...]:
        return _empty, (made_by, kind), vars(layer)

    members = {"forward": forward, "__reduce_ex__": reduced, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**members, "_made_by": (made_by,)})


def _empty(made_by: Callable[..., Kind], kind: Kind) -> nn.Module:
    derived = made_by(kind)
    return derived.__new__(derived)
