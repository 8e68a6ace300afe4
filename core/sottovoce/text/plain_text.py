"""Cleaning of untrusted text, such as a file's name or a library's error, for one line of a terminal."""

from __future__ import annotations

import re
import unicodedata

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that control or hide, such as escapes, line ends and changes of direction."""

_SEQUENCES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x1b\x9b]\[?[0-?]*[ -/]*[@-~]")
"""Sequences that a terminal executes, such as colors and titles."""


def one_line(value: object, longest: int | None = None) -> str:
    """Return a text on one line without characters that control a terminal; a long one is cut in its middle.

    Args:
        value: The text, or an object that is converted to text.
        longest: Most characters to return; ``None`` cuts nothing.
    """
    line = " ".join(plain(str(value)).split())
    return line if longest is None else shortened(line, longest)


def plain(text: str) -> str:
    """Return ``text`` without characters that a terminal would execute or not show."""
    return "".join(map(_plain_character, _SEQUENCES.sub("", text)))


def shortened(text: str, longest: int) -> str:
    """Return ``text``, or both its ends if it is longer than ``longest``: the advice of an error is at its end."""
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f"{text[: longest - tail - 3]}...{text[-tail:]}"


def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cf", "Cs", "Co", "Cn"):
        return ""  # invisible characters could hide a word or a secret
    return " " if category in UNSEEN else character
