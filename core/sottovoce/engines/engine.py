"""An engine that runs models, and the registry of all that are known in this process."""

from __future__ import annotations

import copy
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sottovoce.errors import PluginError, UsageError, require_name
from sottovoce.system.registry import new_registry

if TYPE_CHECKING:
    from sottovoce.samples import Prediction, Sample


_ENGINES: dict[tuple[str, str], type[Engine]] = new_registry()
"""Registered classes by module and name, so that a module that is imported twice replaces its own class."""


class Engine(ABC):
    """A library that runs a model's directory or an exported one, for ``sottovoce check``.

    A subclass with a name registers itself. The plugin's entry point has to import its module, which must not import
    torch or the library.
    """

    name: ClassVar[str] = ""
    """Name of the engine, in tables and limits."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that it needs, as pip names them."""
    is_part: ClassVar[bool] = False
    """If true, it runs a part of a model, and needs the model too: see :attr:`model`."""
    model: Path | None = None
    """Directory of the model that a part is of, where it is known."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.name:
            return
        require_name("engine", cls.name, cls.__module__)
        if isinstance(cls.packages, str):
            raise PluginError(f"the engine {cls.name!r} of {cls.__module__}: packages is a tuple of names")
        _ENGINES[cls.__module__, cls.__qualname__] = cls

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if not _is_installed(name)]

    def advice(self) -> str:
        """Return how to install what is missing."""
        return f"pip install {' '.join(self.missing())}"

    def version(self) -> str:
        """Return the version of the first package."""
        return metadata.version(self.packages[0]) if self.packages else ""

    @staticmethod
    def threads() -> int:
        """Return as many threads as PyTorch uses beside it: those of ``OMP_NUM_THREADS``, or all cores."""
        text = os.environ.get("OMP_NUM_THREADS", "")
        return int(text) if text.isdigit() else os.cpu_count() or 1

    def within(self, model: Path | None) -> Self:
        """Return the engine for a part of the model in a directory; engines of whole models make no use of it."""
        engine = copy.copy(self)
        engine.model = model
        return engine

    def require_model(self, directory: Path) -> Path:
        """Return the directory of the model that a part is of.

        Raises:
            UsageError: It is not known.
        """
        if self.model is None:
            raise UsageError(f"{directory.name} has a part of a model alone: name the model too, by --reference MODEL")
        return self.model

    @abstractmethod
    def fits(self, directory: Path) -> bool:
        """Return whether a directory holds what the engine runs; by its files, without reading weights."""

    @abstractmethod
    def load(self, directory: Path) -> Callable[[Sample], Prediction]:
        """Load a directory, and return a function that runs one sample: its audio is an array of 16 kHz.

        Raises:
            SottovoceError: The files cannot be run.
        """


def registered_engines() -> tuple[Engine, ...]:
    """Return all registered engines, in the order of their declaration.

    Raises:
        PluginError: Two have one name.
    """
    engines: dict[str, Engine] = {}
    for kind in _ENGINES.values():
        if inspect.isabstract(kind):
            continue
        if kind.name in engines:
            owner = type(engines[kind.name]).__module__
            raise PluginError(f"the engine {kind.name!r} of {kind.__module__} is taken by {owner}")
        engines[kind.name] = kind()
    return tuple(engines.values())


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
