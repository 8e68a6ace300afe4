"""Parsing of untrusted JSON and YAML as plain data: no tags, no merged mappings, no NaN or infinity."""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

import yaml

LARGEST_FILE = 32_000_000
"""Most bytes of a configuration; the index of a model with ten thousand experts has three million."""

_REMEMBERED = 100_000
"""Most characters of YAML that are remembered with what they say: loading a model reads its files several times."""
_HALVES = re.compile(r"\\u[dD][89a-fA-F]")
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "null", "bool", "int", "float"))


def read_data(path: Path) -> Any:
    """Read a JSON file (``*.json``), or else a YAML file.

    Raises:
        OSError: The file cannot be opened.
        ValueError: The file is too large, not text, broken, or holds more than plain data; says what.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it is larger than {LARGEST_FILE // 1_000_000} MB")
    text = content.decode("utf-8-sig")
    return parse_json(text) if path.suffix == ".json" else parse_yaml(text)


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is broken, nested too deeply, or has a number that is infinite or NaN, or half a character.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if _HALVES.search(text):
        # Two halves make one character; a single half cannot be encoded.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def parse_yaml(text: str) -> Any:
    """Parse YAML; dates stay text.

    Raises:
        ValueError: It is broken, nested too deeply, or has tags, merged mappings (a few lines of which can expand to
            more than the memory holds) or a number that is infinite or NaN.
    """
    return copy.deepcopy(_parse_once(text)) if len(text) <= _REMEMBERED else _parse(text)


@functools.lru_cache(maxsize=8)
def _parse_once(text: str) -> Any:
    return _parse(text)


def _parse(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_PlainLoader)  # a SafeLoader that knows fewer tags
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, OverflowError, ArithmeticError) as error:
        raise ValueError(str(error)) from None


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without the features that a configuration does not need."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse ``<<``, which PyYAML resolves by copying."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise ValueError("it merges mappings (<<), which is not supported; write the values")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Refuse tags of other kinds, such as sets and pairs, which would hide their content."""
        if node.tag == "tag:yaml.org,2002:timestamp":
            return str(node.value)
        if node.tag not in _PLAIN and node.tag != "tag:yaml.org,2002:merge":
            raise ValueError(f"it has a value of the kind {node.tag!r}, which is not supported")
        value = super().construct_object(node, deep)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"the number {node.value} is infinite or NaN")
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"the number {name} is infinite or NaN")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse_constant(digits[:20])
    return value
