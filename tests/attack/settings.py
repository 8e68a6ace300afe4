"""Files of settings, JSON or YAML, and what stands in them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Keys = tuple[str | int, ...]

_LISTS = ("id2label", "label2id")
"""Mappings of which the first entry stands for all."""


def read(path: Path) -> Any:
    """Return what a file of settings holds."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)


def write(path: Path, form: Any) -> None:
    """Write settings in the format that the file's name asks for."""
    if path.suffix == ".json":
        path.write_text(json.dumps(form, indent=1), encoding="utf-8")
    else:
        path.write_text(yaml.safe_dump(form, sort_keys=False), encoding="utf-8")


def places(form: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Yield the keys of every setting, sections too."""
    if isinstance(form, dict):
        for number, (key, value) in enumerate(form.items()):
            if number and keys and keys[-1] in _LISTS:
                return
            yield (*keys, key)
            yield from places(value, (*keys, key))


def get(form: Any, keys: Keys) -> Any:
    """Return the setting at a place."""
    for key in keys:
        form = form[key]
    return form


def put(form: Any, keys: Keys, value: Any) -> None:
    """Change the setting at a place; sections that are not there are made."""
    *outer, last = keys
    for key in outer:
        form = form.setdefault(key, {}) if isinstance(form, dict) else form[key]
    form[last] = copy.deepcopy(value)


def drop(form: Any, keys: Keys) -> None:
    """Take a setting out."""
    del get(form, keys[:-1])[keys[-1]]


def changed(name: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    """Return what changes the settings in the file ``name`` of a directory; a value that is given replaces them."""

    def apply(directory: Path) -> None:
        form = read(directory / name)
        given = change(form)
        write(directory / name, form if given is None else given)

    return apply


def with_value(name: str, keys: Keys, value: Any) -> Callable[[Path], None]:
    """Return what puts a value at a place of the file ``name``."""
    return changed(name, lambda form: put(form, keys, value))


def with_values(name: str, values: dict[str, Any]) -> Callable[[Path], None]:
    """Return what puts values at places whose keys are joined by dots."""

    def change(form: Any) -> None:
        for place, value in values.items():
            put(form, tuple(place.split(".")), value)

    return changed(name, change)


def replaced(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return what makes the whole of the file ``name`` something else."""

    def apply(directory: Path) -> None:
        (directory / name).write_bytes(_bytes(content))

    return apply


def appended(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return what adds something to the end of the file ``name``."""

    def apply(directory: Path) -> None:
        with (directory / name).open("ab") as file:
            file.write(_bytes(content))

    return apply


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return what makes several changes, one after the other."""

    def apply(directory: Path) -> None:
        for change in changes:
            change(directory)

    return apply


def _bytes(content: str | bytes) -> bytes:
    return content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
