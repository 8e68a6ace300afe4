"""Reading a model repository's configuration without running or following anything in it."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sottovoce.checkpoint.plain_data import read_data
from sottovoce.errors import SourceError
from sottovoce.text.plain_text import UNSEEN, one_line

CODE_KEYS = frozenset({"trust_remote_code", "remote_code", "auto_map", "custom_pipelines"})
"""Keys by which a configuration asks for code of its own."""

LARGEST = 1_000_000
"""Entries that a configuration may have: a few lines of YAML can stand for more than a memory holds."""

LEAVING = ("/*", "..", "../*", "*/..", "*/../*", "~*", "?:*")
"""Patterns of names that leave a directory, for a client that lists the files of a hub itself."""


def read_config(path: Path, refuse: Iterable[str] = CODE_KEYS, *, references: bool = False) -> dict[str, Any]:
    """Read a YAML or JSON configuration as plain data.

    Args:
        path: ``*.json``, or else YAML.
        refuse: Keys that may not hold anything, at any depth.
        references: Whether ``${...}`` may stand in it, for a reader that leaves parts of it out.

    Raises:
        SourceError: The file is missing, broken or too large, holds a refused key, a ``${...}`` reference or a number
            that is infinite or none.
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
    """Look through a configuration, or the part of it that is used.

    Raises:
        SourceError: It holds a refused key or a ``${...}`` reference, holds itself, or is too large.
    """
    refused = frozenset(refuse)
    try:
        for number, (place, key, value) in enumerate(entries(config)):
            if number > LARGEST:
                raise SourceError(f"{path}: cannot be read: it has more than {LARGEST} entries")
            if key in refused and value not in (None, False, "", [], {}):
                where = one_line(place, 60)
                raise SourceError(
                    f"{path}: {where} is refused: nothing that a model repository brings is run or followed"
                )
            if not references and ("${" in str(key) or (isinstance(value, str) and "${" in value)):
                raise SourceError(
                    f"{path}: {one_line(place, 60)} holds a ${{...}} reference, which is not resolved; write the value"
                )
    except RecursionError:
        raise SourceError(f"{path}: cannot be read: it holds itself, or is nested too deeply") from None


def contained_path(directory: Path, name: str, what: str = "the path") -> Path:
    """The path of ``name`` in ``directory``.

    Args:
        directory: A model's directory.
        name: What the model's configuration calls the file.
        what: The key that says so, for the error.

    Raises:
        SourceError: ``name`` is absolute or leaves the directory, by the rules of POSIX or of Windows, or is a link to
            a file elsewhere, unless that is the hub cache's own.
    """
    path = directory / name
    try:
        target = path.resolve()
        target.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise SourceError(f"{directory}: {what} {_shown(name)} is no path ({one_line(error, 80)})") from None
    if _leaves(name) or not any(target.is_relative_to(root) for root in _roots(directory.resolve())):
        raise SourceError(f"{directory}: {what} {_shown(name)} leaves the model's directory")
    return path


def _shown(name: str) -> str:
    return one_line(repr(name), 80)


def check_files(directory: Path) -> None:
    """Look at all that lies in a model's directory, before any of it is opened by whomever.

    What is hidden is nobody's and left alone.

    Raises:
        SourceError: Something is a link to what lies elsewhere, unless that is the hub cache's own, or it is no file:
            a pipe, which would be waited for, a socket or a device.
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
        raise SourceError(f"{directory}: {name} is no file but a pipe, a socket or a device; take it out")


def check_listing(names: Iterable[Any], repository: str) -> None:
    """Look at the names of files that a hub lists, before its client makes paths of them.

    Raises:
        SourceError: A name is no text or empty, is absolute or leaves the directory by the rules of POSIX or of
            Windows, or holds characters that are not to be seen.
    """
    for name in names:
        if not isinstance(name, str) or not PurePosixPath(name).parts:
            raise SourceError(
                f"{repository}: nothing was fetched: the hub lists a file without a name ({ascii(name)[:100]}); "
                "tell its publisher"
            )
        if _leaves(name) or any(unicodedata.category(character) in UNSEEN for character in name):
            raise SourceError(
                f"{repository}: nothing was fetched: the hub lists {ascii(name)[:100]}, which is no file of a "
                "repository; tell its publisher"
            )


def _leaves(name: str) -> bool:
    """Whether a name is absolute or goes up, by the rules of POSIX or of Windows."""
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root or ".." in windows.parts or name.startswith("~"))


def _roots(directory: Path) -> tuple[Path, ...]:
    # The Hugging Face Hub's cache keeps files in `blobs`, and in `snapshots/<commit>` links to them.
    return (directory, directory.parents[1] / "blobs") if directory.parent.name == "snapshots" else (directory,)


def entries(value: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Place, last key and value of everything below."""
    if isinstance(value, Mapping | list):
        for key, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            here = f"{place}.{key}" if place else str(key)
            yield here, key, child
            yield from entries(child, here)
