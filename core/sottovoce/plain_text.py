"""Text that nobody vouches for, such as a file's name or a library's error, made fit for one line of a terminal."""

from __future__ import annotations

import unicodedata

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that control or hide, such as escapes, line ends and changes of direction."""


def one_line(value: object, longest: int | None = None) -> str:
    """Return a text on one line without characters that control a terminal; a long one is cut in its middle.

    Args:
        value: The text, or what has one.
        longest: The most characters to return; ``None`` cuts nothing.
    """
    seen = "".join(" " if unicodedata.category(character) in UNSEEN else character for character in str(value))
    line = " ".join(seen.split())
    if longest is None or len(line) <= longest:
        return line
    # What comes next stands at the end.
    tail = longest // 4
    return f"{line[: longest - tail - 3]}...{line[-tail:]}"
