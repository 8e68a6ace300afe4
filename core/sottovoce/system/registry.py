"""Registries: what modules declare when they are imported, such as steps, methods, metrics and formats."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_REGISTRIES: list[dict[Any, Any]] = []


def new_registry() -> dict[Any, Any]:
    """Return an empty registry."""
    registry: dict[Any, Any] = {}
    _REGISTRIES.append(registry)
    return registry


@contextmanager
def undone_on_error() -> Iterator[None]:
    """Take back what was registered meanwhile if an exception is raised, such as while a plugin is imported."""
    before = [dict(registry) for registry in _REGISTRIES]
    try:
        yield
    except BaseException:
        for registry, entries in zip(_REGISTRIES, before, strict=False):
            registry.clear()
            registry.update(entries)
        raise


@functools.cache
def import_modules(package: str) -> None:
    """Import every module of a package, once, so that what they declare is registered."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
