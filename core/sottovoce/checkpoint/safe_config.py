"""Safe reading of a model repository's configuration: nothing in it is run or followed."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sottovoce.checkpoint.plain_data import read_data
from sottovoce.errors import SourceError
from sottovoce.text.plain_text import UNSEEN, one_line

CODE_KEYS = frozenset({"trust_remote_code", "remote_code", "auto_map", "custom_pipelines"})
"""Keys by which a configuration asks to run its own code."""

LARGEST = 1_000_000
"""Most entries of a configuration: a few lines of YAML can expand to more than the memory holds."""

LEAVING = ("/*", "..", "../*", "*/..", "*/../*", "~*", "?:*")
"""Patterns of names that leave a directory, for a client that lists the files of a hub itself."""


def read_config(path: Path, refuse: Iterable[str] = CODE_KEYS, *, references: bool = False) -> dict[str, Any]:
    """Read a YAML or JSON configuration as plain data.

    Args:
        path: ``*.json``, or else YAML.
        refuse: Keys that may not hold anything, at any depth.
        references: If true, ``${...}`` references are accepted, for a reader that does not use the parts with them.

    Raises:
        SourceError: The file is missing, broken or too large, or holds a refused key, a ``${...}`` reference or a
            number that is infinite or NaN.
    """
    try:
        config = read_data(path)
    except FileNotFoundError:
        raise SourceError(f"{path.parent}: there is no {path.name}; is it a model directory?") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read: {one_line(error, 160)}") from None
    if not isinstance(config, dict):
        raise SourceError(f"{path}: a configuration must be a mapping, not {type(config).__name__}")
    check_config(config, path, refuse, references=references)
    return config


def check_config(
    config: Mapping[str, Any], path: Path, refuse: Iterable[str] = CODE_KEYS, *, references: bool = False
) -> None:
    """Check a configuration, or the part of it that is used.

    Raises:
        SourceError: It holds a refused key or a ``${...}`` reference, contains itself, or is too large.
    """
    refused = frozenset(refuse)
    try:
        for number, (place, key, value) in enumerate(entries(config)):
            if number > LARGEST:
                raise SourceError(f"{path}: cannot be read: it has more than {LARGEST} entries")
            if key in refused and value not in (None, False, "", [], {}):
                where = one_line(place, 60)
                raise SourceError(f"{path}: {where} is refused: code from a model repository is never run or fetched")
            if not references and ("${" in str(key) or (isinstance(value, str) and "${" in value)):
                raise SourceError(
                    f"{path}: {one_line(place, 60)} holds a ${{...}} reference, which is not resolved; write the value"
                )
    except RecursionError:
        raise SourceError(f"{path}: cannot be read: it contains itself, or is nested too deeply") from None


def is_file_name(name: object) -> bool:
    """Return whether ``name`` is that of a file in a directory itself, by the rules of POSIX and of Windows."""
    return isinstance(name, str) and name not in ("", ".", "..") and not re.search(r"[/\\:\x00]", name)


def contained_path(directory: Path, name: str, what: str = "the path") -> Path:
    """Return the path of ``name`` in ``directory``.

    Args:
        directory: A model's directory.
        name: Name of the file in the model's configuration.
        what: The key that holds it, for the error.

    Raises:
        SourceError: ``name`` is absolute or leaves the directory, by the rules of POSIX or of Windows, or is a link to
            a file elsewhere other than in the hub's cache.
    """
    path = directory / name
    try:
        target = path.resolve()
        target.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{directory}: {what} {_shown(name)} is not a valid path ({one_line(error, 80)})") from None
    if _leaves(name) or not any(target.is_relative_to(root) for root in _roots(directory.resolve())):
        raise SourceError(f"{directory}: {what} {_shown(name)} leaves the model's directory")
    return path


def _shown(name: str) -> str:
    return one_line(repr(name), 80)


def check_files(directory: Path) -> None:
    """Check the kind of every file in a model's directory, before any library opens one.

    Hidden files and folders are left alone.

    Raises:
        SourceError: A link leaves the directory for elsewhere than the hub's cache, or a file is a pipe (reading would
            wait for it), a socket or a device.
    """
    roots = _roots(directory.resolve())
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in (*folders, *(name for name in files if not name.startswith("."))):
            _check_file(directory, Path(folder, name), roots)


def _check_file(directory: Path, path: Path, roots: tuple[Path, ...]) -> None:
    name = ascii(path.relative_to(directory).as_posix())[:100]
    try:
        inside = not path.is_symlink() or any(path.resolve().is_relative_to(root) for root in roots)
        mode = path.stat().st_mode if inside and path.exists() else None
    except (OSError, RuntimeError) as error:
        raise SourceError(f"{directory}: {name} cannot be read ({error})") from None
    if not inside:
        raise SourceError(f"{directory}: {name} is a link that leaves the model's directory; put the file itself there")
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SourceError(f"{directory}: {name} is not a file but a pipe, a socket or a device; remove it")


def check_listing(names: Iterable[Any], repository: str) -> None:
    """Check the names of files that a hub lists, before its client builds paths from them.

    Raises:
        SourceError: A name is not text or is empty, is absolute or leaves the directory by the rules of POSIX or of
            Windows, or holds invisible characters.
    """
    for name in names:
        if not isinstance(name, str) or not PurePosixPath(name).parts:
            raise SourceError(
                f"{repository}: nothing was fetched: the hub lists a file without a name ({ascii(name)[:100]}); "
                "tell its publisher"
            )
        if _leaves(name) or any(unicodedata.category(character) in UNSEEN for character in name):
            raise SourceError(
                f"{repository}: nothing was fetched: the hub lists {ascii(name)[:100]}, which is not a valid name of a "
                "repository's file; tell its publisher"
            )


def _leaves(name: str) -> bool:
    """Return true if a name is absolute or goes up, by the rules of POSIX or of Windows."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root or ".." in windows.parts or name.startswith("~"))


def _roots(directory: Path) -> tuple[Path, ...]:
    # The Hugging Face Hub's cache keeps files in `blobs`, and in `snapshots/<commit>` links to them.
    return (directory, directory.parents[1] / "blobs") if directory.parent.name == "snapshots" else (directory,)


def entries(value: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the place (dotted), last key and value of every entry, at any depth."""
    if isinstance(value, Mapping | list):
        for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            here = f"{place}.{key}" if place else str(key)
            yield here, key, child
            yield from entries(child, here)
