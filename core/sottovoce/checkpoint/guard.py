"""Reading a model repository's configuration without running or following anything in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import yaml

from sottovoce.errors import SourceError

CODE_KEYS = frozenset({"trust_remote_code", "remote_code", "auto_map", "custom_pipelines"})
"""Keys by which a configuration asks for code of its own."""


def read_config(path: Path, refuse: Iterable[str] = CODE_KEYS) -> dict[str, Any]:
    """Read a YAML or JSON configuration as plain data.

    Args:
        path: ``*.json``, or else YAML.
        refuse: Keys that may not hold anything, at any depth.

    Raises:
        SourceError: The file is missing or broken, holds a refused key or a ``${...}`` reference.
    """
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise SourceError(f"{path.parent}: there is no {path.name}; is it a model directory?") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, json.JSONDecodeError) as error:
        raise SourceError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise SourceError(f"{path}: a configuration must be a mapping, not {type(config).__name__}")
    refused = frozenset(refuse)
    for place, value in _walk(config):
        key = place.rsplit(".", 1)[-1]
        if key in refused and value not in (None, False, "", [], {}):
            raise SourceError(f"{path}: {place} is refused: nothing that a model repository brings is run or followed")
        if isinstance(value, str) and "${" in value:
            raise SourceError(f"{path}: {place} holds a ${{...}} reference, which is not resolved; write the value")
    return config


def contained_path(directory: Path, name: str) -> Path:
    """The path of ``name`` in ``directory``.

    Raises:
        SourceError: ``name`` is absolute or leaves the directory, by the rules of POSIX or of Windows.
    """
    windows = PureWindowsPath(name)
    if windows.drive or windows.root or ".." in windows.parts or name.startswith("~"):
        raise SourceError(f"{directory}: the path {name!r} leaves the model's directory")
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()) and not path.is_symlink():
        raise SourceError(f"{directory}: the path {name!r} leaves the model's directory")
    return path


def _walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in value.items():
            here = f"{place}.{key}" if place else str(key)
            yield here, child
            yield from _walk(child, here)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield f"{place}.{number}", child
            yield from _walk(child, f"{place}.{number}")
