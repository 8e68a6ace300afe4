"""Sources of models: repositories, directories, and options for loading from them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from sottovoce.errors import UsageError

Hub = Literal["hf", "modelscope"]


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Model repository on a hub."""

    id: str
    hub: Hub = "hf"
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Location of a model's files, and the name that the user gave."""

    name: str
    """Name as the user wrote it: a directory, an alias or a hub id."""
    directory: Path
    """Directory of the files on this machine."""
    repository: Repository | None = None
    """Hub repository with the revision that was fetched, if the model came from a hub."""
    weights: str | None = None
    """Weights file that the user chose, if the directory has several."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Options for loading a model; those that only the native library knows are passed through."""

    device: str = "cpu"
    dtype: str | None = None
    hub: Hub | None = None
    revision: str | None = None
    token: str | None = None
    cache_dir: Path | None = None
    weights: str | None = None
    """Name of the weights file in the directory; by default the one that the library would choose."""
    allow_unexpected: tuple[str, ...] = ()
    """Patterns of tensors in the file that may be left out of the model."""
    stream: bool = False
    """If true, the weights of the blocks stay on disk, for a model that is larger than memory: it can be compressed and
    saved, not run."""
    max_memory: int | None = None
    """Bytes that the process may use; a mixture of experts that needs more than half of them is streamed."""
    native: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for the library that builds the model."""

    def refuse_unknown(self, accepted: Iterable[str], library: str) -> None:
        """Refuse keyword arguments that the native library would ignore or fail on.

        Args:
            accepted: Names of those that it honors.
            library: Name of the library, for the error.

        Raises:
            UsageError: There are others; names them, with similar known names.
        """
        known = {*accepted, *(option.name for option in fields(self))} - {"native"}
        problems = []
        for name in sorted(set(self.native) - known):
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)
            problems.append(f"{name} (did you mean {close[0]}?)" if close else name)
        if problems:
            raise UsageError(f"{library} has no such option: {', '.join(problems)}")
