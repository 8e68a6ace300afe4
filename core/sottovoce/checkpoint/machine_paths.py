"""Paths of somebody's machine in files that are given away: nothing that is written or published holds one."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sottovoce.checkpoint.plain_data import parse_json, parse_yaml
from sottovoce.checkpoint.safe_config import entries

LARGEST = 20_000_000
"""Bytes; longer files are weights, and are not read."""

_BINARY = (".safetensors", ".onnx", ".png", ".data", ".model")
_VOCABULARY = re.compile(r"(tokenizer|vocab|tokens|added_tokens|merges|spiece)\b.*\.(json|txt)")
"""Files of words, among which ``/tmp`` and ``/home/user`` are words."""

_WHOLE = re.compile(r"(file:/{2,3}.+|~[\\/].+|[A-Za-z]:[\\/].+|\\\\[^\\]+\\.+|(/[^/\n]+){2,}/?)")
"""A text that is an absolute path and nothing else."""
_USER = re.compile(r"(?<![\w.])(/home/[^/\s\"']+/|/Users/[^/\s\"']+/|[A-Za-z]:[\\/]+Users[\\/]+)\S*")


def machine_roots(*directories: Path) -> tuple[str, ...]:
    """The directories that give a machine away: the user's, the temporary one, the working one, and those given."""
    known: list[Path] = [Path(tempfile.gettempdir()), Path.cwd(), *directories]
    with contextlib.suppress(RuntimeError):  # A user without a home gives none away.
        known.append(Path.home())
    texts = {str(path) for each in known for path in (each.absolute(), each.resolve())}
    return tuple(sorted(text for text in texts if _depth(text) > 0))


def find_path(name: str, content: bytes, roots: Sequence[str]) -> tuple[str, str] | None:
    """Look for a path of a machine in a file.

    Args:
        name: The file's.
        content: What it holds.
        roots: From :func:`machine_roots`.

    Returns:
        Where it stands, a key or a line, and the path; ``None`` where there is none, and for files of no text.
    """
    if len(content) > LARGEST or name.endswith(_BINARY):
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    words = _VOCABULARY.fullmatch(PurePosixPath(name).name) is not None
    form = None if words else _parsed(name, text)
    if form is not None:
        return next(_in_form(form, roots), None)
    deep = tuple(root for root in roots if not words or _depth(root) > 1)
    for number, line in enumerate(text.splitlines(), start=1):
        # JSON doubles what separates the parts of a path of Windows.
        if met := _below(line, deep) or _below(line.replace("\\\\", "\\"), deep):
            return f"line {number}", met
    return None


def is_path(value: str) -> bool:
    """Whether a text is an absolute path and nothing else, by the rules of POSIX or of Windows."""
    return _WHOLE.fullmatch(value) is not None


def _in_form(form: Any, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, key, value in entries(form):
        for text in (key, value):
            if not isinstance(text, str):
                continue
            if is_path(text):
                yield place, text
            elif met := _below(text, roots):
                yield place, met
            elif user := _USER.search(text):
                yield place, user[0]


def _parsed(name: str, text: str) -> Any:
    try:
        if name.endswith(".json"):
            return parse_json(text)
        if name.endswith((".yaml", ".yml")):
            return parse_yaml(text)
    except ValueError:
        pass  # What cannot be parsed is searched as text.
    return None


def _below(text: str, roots: Sequence[str]) -> str | None:
    """The first path in a text that lies in one of the roots."""
    if not any(root in text for root in roots):
        return None
    met = _pattern(tuple(roots)).search(text)
    return met[0] if met else None


@functools.cache
def _pattern(roots: tuple[str, ...]) -> re.Pattern[str]:
    # A root of one part, such as /tmp, is a word too; below it something must be named.
    ends = (re.escape(root) + (r"(?=[/\\]\w|$)" if _depth(root) == 1 else r"(?![\w-])") for root in roots)
    return re.compile(rf"(?<![\w./\\])({'|'.join(ends)})[^\s\"'<>|]*")


def _depth(path: str) -> int:
    """How many names a path has below the root."""
    kind = PureWindowsPath if re.match(r"[A-Za-z]:|\\\\", path) else PurePosixPath
    return len(kind(path).parts) - 1


def refused_paths(files: Iterable[tuple[str, bytes]], roots: Sequence[str]) -> str | None:
    """What to say of the first file that holds a path of a machine; ``None`` where none does."""
    for name, content in files:
        if met := find_path(name, content, roots):
            return f"{name}: {met[0]} holds {met[1][:200]!r}, a path of a machine"
    return None
