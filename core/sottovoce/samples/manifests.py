"""Reader of JSON Lines manifests with FunASR's keys, as the fields of samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sottovoce.errors import SamplesError
from sottovoce.system.audio import AudioSegment

MEDIA = ("video", "audio", "image")
"""Kinds of content in files; the modality of a conversation is the first of them that it has."""
_LARGEST = 2**63
"""Least integer that is refused: it is not plausible, and many readers of JSON fail on it."""
_FIELDS = {"key": str, "source": str, "target": str, "language": str, "words": list, "messages": list, "modality": str}


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place (file and line) of every line, and the fields of its sample.

    Raises:
        SamplesError: A line is broken, or names a missing file; the message names file and line.
    """
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        fields = _parsed(line, where)
        if not isinstance(fields, dict):
            raise SamplesError(f'{where}: a line must be a JSON object, such as {{"key": ..., "source": ...}}')
        yield where, _sample(fields, where, path.parent, number)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not empty, with their numbers; only line feeds end lines.

    Raises:
        SamplesError: The file is not valid UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise SamplesError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip(" \t\r")


def find_file(source: str, kind: str, root: Path, where: str) -> Path:
    """Return the path of a file that a manifest names relative to its directory.

    Raises:
        SamplesError: The file does not exist.
    """
    if not exists(path := root / source):
        raise SamplesError(f"{where}: no such {kind} file: {shown(source)}")
    return path.absolute()  # a notebook may change its working directory


def exists(path: Path) -> bool:
    """Return true if a file exists, false for names that no file can have."""
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def shown(text: str) -> str:
    """Return a manifest's text in a form for errors: short, on one line, of printable characters."""
    text = text if len(text) <= 100 else f"{text[:97]}..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _parsed(line: str, where: str) -> Any:
    try:
        fields = json.loads(
            line, parse_constant=_number, parse_float=_number, parse_int=_integer, object_pairs_hook=_distinct
        )
        json.dumps(fields, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise SamplesError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise SamplesError(f"{where}: lists or objects are nested too deeply") from None
    except UnicodeEncodeError:
        raise SamplesError(f"{where}: holds half a character (a surrogate without its other half)") from None
    except ValueError as error:
        raise SamplesError(f"{where}: {error}") from None
    return fields


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is not a valid number")
    return number


def _integer(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) >= _LARGEST:
        raise ValueError(f"the integer {text[:20]}{'...' if len(text) > 20 else ''} is too large")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)!r} occurs twice in an object")
    return fields


def _sample(fields: Mapping[str, Any], where: str, root: Path, number: int) -> dict[str, Any]:
    for name, kind in _FIELDS.items():
        if fields.get(name) is not None and not isinstance(fields[name], kind):
            raise SamplesError(f"{where}: {name!r} must be a {kind.__name__}, not {type(fields[name]).__name__}")
    if fields.get("source") is None and not fields.get("messages") and fields.get("target") is None:
        raise SamplesError(f"{where}: neither 'source' (a path to audio) nor 'messages', nor 'target' for a text model")
    return {
        "key": fields.get("key") or f"{number:06d}",
        "audio": _audio(fields, root, where),
        "text": fields.get("target"),
        "language": fields.get("language"),
        "words": tuple(_word(word, where) for word in fields.get("words") or ()),
        "messages": tuple(_message(message, root, where) for message in fields.get("messages") or ()),
        "modality": fields.get("modality") or "",
    }


def _audio(fields: Mapping[str, Any], root: Path, where: str) -> Path | AudioSegment | None:
    """Return the path of the source, or its segment between ``start`` and ``end``."""
    if fields.get("source") is None:
        return None
    path = find_file(fields["source"], "audio", root, where)
    start, end = (fields.get(name) for name in ("start", "end"))
    if start is None and end is None:
        return path
    for name, seconds in (("start", start), ("end", end)):
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
            raise SamplesError(f"{where}: {name!r} must be seconds of 'source', not {shown(repr(seconds))}")
    return AudioSegment(path, float(start or 0), None if end is None else float(end))


def _word(word: Any, where: str) -> Mapping[str, Any]:
    """Check one of ``words``: its times, if it has any, are numbers."""
    if not isinstance(word, dict):
        raise SamplesError(f"{where}: each of 'words' must be an object with 'text', 'start' and 'end' in seconds")
    for name in ("start", "end"):
        try:
            fits = word.get(name) is None or math.isfinite(float(word[name]))
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise SamplesError(f"{where}: {name!r} of a word must be seconds, not {shown(repr(word[name]))}")
    return word


def _message(message: Any, root: Path, where: str) -> Mapping[str, Any]:
    """Check a message, and replace the media of its content by paths."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise SamplesError(f"{where}: each of 'messages' must be an object with a 'role' and a 'content'")
    content = message.get("content")
    if isinstance(content, str):
        return message
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise SamplesError(f"{where}: a message's 'content' must be text, or a list of objects with a 'type'")
    return message | {"content": [_item(item, root, where) for item in content]}


def _item(item: Mapping[str, Any], root: Path, where: str) -> Mapping[str, Any]:
    kind = item.get("type")
    if kind not in ("text", *MEDIA):
        raise SamplesError(f"{where}: the 'type' of content must be text, {', '.join(sorted(MEDIA))}, not {kind!r}")
    content: Any = item.get(kind)
    is_frames = kind == "video" and isinstance(content, list) and len(content) > 0
    names = content if is_frames else [content]
    if not all(isinstance(name, str) for name in names):
        expected = {"text": "a string", "video": "a path, or a list of paths of images"}.get(kind, "a path")
        raise SamplesError(f"{where}: content of the type {kind!r} needs {kind!r}: {expected}")
    if kind == "text":
        return item
    paths = [find_file(name, kind, root, where) for name in names]
    return {**item, kind: paths if is_frames else paths[0]}
