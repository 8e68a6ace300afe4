"""Two texts side by side, with the characters marked in which they differ."""

from __future__ import annotations

import html

from rapidfuzz.distance import Levenshtein


def marked(original: str, compressed: str) -> tuple[str, str]:
    """Return both texts as HTML: what only the first has is ``<del>``, what only the second has is ``<ins>``."""
    sides: tuple[list[str], list[str]] = ([], [])
    for operation in Levenshtein.opcodes(original, compressed):
        first = html.escape(original[operation.src_start : operation.src_end])
        second = html.escape(compressed[operation.dest_start : operation.dest_end])
        if operation.tag != "equal":
            first, second = first and f"<del>{first}</del>", second and f"<ins>{second}</ins>"
        sides[0].append(first)
        sides[1].append(second)
    return "".join(sides[0]), "".join(sides[1])


def distance(original: str, compressed: str) -> int:
    """Return the number of characters to change, insert or remove."""
    return Levenshtein.distance(original, compressed)
