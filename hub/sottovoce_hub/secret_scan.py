"""Search for secrets in files to publish: in texts, plain and encoded, and in binary files."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sottovoce_hub.secret_kinds import kinds

OWN = "your own token"
SHORTEST = 8
"""Characters of a token of the user's that is looked for; a shorter one would be a word."""

_PIECE = 16_000_000
"""Bytes that are looked at together."""
_ENDS = 8_000_000
"""Bytes that are searched at both ends of a large binary file, such as weights."""
_OVERLAP = 8_000
_SAMPLE = 65_536
_BEFORE, _AFTER = 200, 3_000
"""Characters around a hint that are looked at."""
_DEEPEST = 2
"""Times that a text may be encoded."""

_ESCAPES = re.compile(r"\\u00([2-7][0-9a-fA-F])|\\x([2-7][0-9a-fA-F])|%([2-7][0-9a-fA-F])|\\([/\"'])")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_WRAPPED = re.compile(r"[A-Za-z0-9+/]{60,76}(?:\r?\n[A-Za-z0-9+/]{1,76}){1,2000}={0,2}")
_ASCII = bytes(range(128)) + b"\x7f" * 128
"""Table that masks characters other than ASCII, which are no part of a secret, and no letter before one."""
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]{12}")


def find_secret(content: Path | bytes, tokens: Collection[str] = ()) -> tuple[str, int | None] | None:
    """Look for a secret in a file.

    Args:
        content: The file, or what it holds.
        tokens: The user's tokens.

    Returns:
        The kind of secret and its line, without a line in binary files; ``None`` where there is none.
    """
    tokens = [token for token in tokens if len(token) >= SHORTEST]
    lines = 1
    for piece, is_text in _pieces(content):
        text = _decoded(piece)
        if (met := _find(text, tokens, is_text)) is not None:
            kind, place = met
            return kind, lines + text.count("\n", 0, place) if is_text else None
        lines += text[:-_OVERLAP].count("\n")
    return None


def _pieces(content: Path | bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the pieces of a file that are searched, and for each of them true if it is text."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    # Weights may begin with pages of text.
    is_text = all(_is_text(_read(content, place, _SAMPLE)) for place in (0, size // 2, max(size - _SAMPLE, 0)))
    starts = range(0, max(size - _OVERLAP, 1), _PIECE - _OVERLAP)
    if not is_text and size > 2 * _ENDS:
        yield _read(content, 0, _ENDS), False
        yield _read(content, size - _ENDS, _ENDS), False
        return
    for start in starts:
        yield _read(content, start, _PIECE), is_text


def _read(content: Path | bytes, start: int, size: int) -> bytes:
    if isinstance(content, bytes):
        return content[start : start + size]
    with content.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _is_text(sample: bytes) -> bool:
    """Return true if a file begins as a text does, one of two bytes a character too."""
    plain = sample.replace(b"\0", b"")
    if not plain or len(plain) < len(sample) // 4:
        return not sample
    unseen = sum(plain.count(byte) for byte in b"\x01\x02\x03\x04\x05\x06\x07\x08\x0e\x0f\x10\x11\x12\x7f")
    return unseen * 100 < len(plain)


def _decoded(content: bytes) -> str:
    # Without its zeros a text of two or four bytes a character is one of one byte, where that is ASCII, as secrets are.
    return content.translate(_ASCII, b"\0").decode("ascii")


def _find(text: str, tokens: Collection[str], is_text: bool, depth: int = 0) -> tuple[str, int] | None:
    if (met := _find_plain(text, tokens)) is not None:
        return met
    if not is_text:
        return None
    if (plain := _unescaped(text)) is not None and (met := _find_plain(plain, tokens)) is not None:
        return met
    return _find_encoded(text, tokens, depth) if depth < _DEEPEST else None


def _find_plain(text: str, tokens: Collection[str]) -> tuple[str, int] | None:
    for token in tokens:
        if (place := text.find(token)) >= 0:
            return OWN, place
    for kind in kinds():
        for hint in kind.hints:
            place = text.find(hint)
            while place >= 0:
                start = max(text.rfind("\n", max(place - _BEFORE, 0), place) + 1, place - _BEFORE, 0)
                end = place + _AFTER
                if (met := kind.find(text[start:end])) is not None:
                    return kind.name, start + met
                place = text.find(hint, max(place + 1, end - _BEFORE))
    return None


def _unescaped(text: str) -> str | None:
    """Return a text without the escapes of JSON and addresses; ``None`` where it has none. Its lines stay."""
    if "\\" not in text and "%" not in text:
        return None
    plain = _ESCAPES.sub(lambda match: match[4] or chr(int(match[1] or match[2] or match[3], 16)), text)
    return plain if plain != text else None


def _find_encoded(text: str, tokens: Collection[str], depth: int) -> tuple[str, int] | None:
    for place, run in _runs(text):
        content = _from_base64(run)
        if content is not None and (met := _find(_decoded(content), tokens, True, depth + 1)) is not None:
            return met[0], place
    return None


def _runs(text: str) -> Iterator[tuple[int, str]]:
    """Yield what may be encoded text, with its place: in either alphabet, and in several lines."""
    end = 0
    for match in _ENCODED.finditer(text):
        run, start = match[0], match.start()
        parts = [part for part in re.split("[-_]", run) if len(part) >= 24]
        if run not in parts and "+" not in run and "/" not in run:
            yield start, run
        yield from ((start, part) for part in parts)
        if len(run) >= 60 and start >= end and (wrapped := _WRAPPED.match(text, start)):
            end = wrapped.end()
            yield start, wrapped[0]


def _from_base64(text: str) -> bytes | None:
    """Return the decoded content of a text, if that has any text in it."""
    text = re.sub(r"\s+", "", text).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return None
    return content if _TEXT.search(content.replace(b"\0", b"")) else None
