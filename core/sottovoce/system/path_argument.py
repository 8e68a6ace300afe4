"""Paths as arguments of the Python API, where no shell replaces ``~`` by the home directory."""

from __future__ import annotations

import os
from pathlib import Path

from sottovoce.errors import UsageError


def as_path(path: str | os.PathLike[str], name: str) -> Path:
    """Return what a caller gave as a path; a leading ``~`` is the home directory.

    Args:
        path: The argument.
        name: Name of the argument, for errors.

    Raises:
        UsageError: The argument is not a path.
    """
    return Path(as_name(path, name, "a path"))


def as_path_or_none(path: str | os.PathLike[str] | None, name: str) -> Path | None:
    """Do what :func:`as_path` does, and return ``None`` for ``None``."""
    return None if path is None else as_path(path, name)


def as_name(name: str | os.PathLike[str], argument: str, what: str) -> str:
    """Return the text of a path, or of another name that stands in the place of one.

    Args:
        name: The argument.
        argument: Name of the argument, for errors.
        what: The kinds of name that are allowed, for errors.

    Raises:
        UsageError: The argument is neither a text nor a path.
    """
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else name
    if not isinstance(text, str):
        raise UsageError(f"{argument}: give {what}, not {type(name).__name__}")
    return str(Path(text).expanduser()) if text.startswith("~") else text
