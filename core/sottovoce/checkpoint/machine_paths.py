"""Search for paths of the user's machine in files that are written or published, so that none leaks."""

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
"""Bytes; longer files are weights and are not searched."""

_BINARY = (".safetensors", ".onnx", ".png", ".data", ".model")
_VOCABULARY = re.compile(r"(tokenizer|vocab|tokens|added_tokens|merges|spiece)\b.*\.(json|txt)")
"""Vocabulary files, in which ``/tmp`` and ``/home/user`` may be entries."""

_WHOLE = re.compile(r"(file:/{2,3}.+|~[\\/].+|[A-Za-z]:[\\/].+|\\\\[^\\]+\\.+|(/[^/\n]+){2,}/?)")
"""Texts that are an absolute path and nothing else."""
_USER = re.compile(r"(?<![\w.])(/home/[^/\s\"']+/|/Users/[^/\s\"']+/|[A-Za-z]:[\\/]+Users[\\/]+)\S*")


def machine_roots(*directories: Path) -> tuple[str, ...]:
    """Return directories that identify a machine: the user's, the temporary, the working one, and ``directories``."""
    known: list[Path] = [Path(tempfile.gettempdir()), Path.cwd(), *directories]
    with contextlib.suppress(RuntimeError):  # a user without a home directory
        known.append(Path.home())
    texts = {str(path) for directory in known for path in (directory.absolute(), directory.resolve())}
    return tuple(sorted(text for text in texts if _depth(text) > 0))


def find_path(name: str, content: bytes, roots: Sequence[str]) -> tuple[str, str] | None:
    """Search a file for a path of a machine.

    Args:
        name: Name of the file.
        content: Content of the file.
        roots: Directories from :func:`machine_roots`.

    Returns:
        The place, a key or a line, and the path; ``None`` if there is no path or the file is not text.
    """
    if len(content) > LARGEST or name.endswith(_BINARY):
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    vocabulary = _VOCABULARY.fullmatch(PurePosixPath(name).name) is not None
    form = None if vocabulary else _parsed(name, text)
    if form is not None:
        return next(_in_form(form, roots), None)
    deep = tuple(root for root in roots if not vocabulary or _depth(root) > 1)
    for number, line in enumerate(text.splitlines(), start=1):
        # JSON doubles the backslashes of a Windows path.
        if path := _below(line, deep) or _below(line.replace("\\\\", "\\"), deep):
            return f"line {number}", path
    return None


def is_path(value: str) -> bool:
    """Return true if a text is an absolute path and nothing else, by the rules of POSIX or of Windows."""
    return _WHOLE.fullmatch(value) is not None


def _in_form(form: Any, roots: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, key, value in entries(form):
        for text in (key, value):
            if not isinstance(text, str):
                continue
            if is_path(text):
                yield place, text
            elif path := _below(text, roots):
                yield place, path
            elif user := _USER.search(text):
                yield place, user[0]


def _parsed(name: str, text: str) -> Any:
    try:
        if name.endswith(".json"):
            return parse_json(text)
        if name.endswith((".yaml", ".yml")):
            return parse_yaml(text)
    except ValueError:
        pass  # a file that cannot be parsed is searched as text
    return None


def _below(text: str, roots: Sequence[str]) -> str | None:
    """Return the first path in a text that lies in one of the roots."""
    if not any(root in text for root in roots):
        return None
    match = _pattern(tuple(roots)).search(text)
    return match[0] if match else None


@functools.cache
def _pattern(roots: tuple[str, ...]) -> re.Pattern[str]:
    # A root of one part, such as /tmp, may be an ordinary word; it counts only with a name below it.
    ends = (re.escape(root) + (r"(?=[/\\]\w|$)" if _depth(root) == 1 else r"(?![\w-])") for root in roots)
    return re.compile(rf"(?<![\w./\\])({'|'.join(ends)})[^\s\"'<>|]*")


def _depth(path: str) -> int:
    """Return the number of names that a path has below the root."""
    kind = PureWindowsPath if re.match(r"[A-Za-z]:|\\\\", path) else PurePosixPath
    return len(kind(path).parts) - 1


def refused_paths(files: Iterable[tuple[str, bytes]], roots: Sequence[str]) -> str | None:
    """Return a message about the first file that holds a path of a machine; ``None`` if none does."""
    for name, content in files:
        if match := find_path(name, content, roots):
            return f"{name}: {match[0]} holds {match[1][:200]!r}, a path of a machine"
    return None
