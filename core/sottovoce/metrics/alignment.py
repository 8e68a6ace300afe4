"""Alignment of two texts: what stays, and what was substituted, deleted and inserted."""

from __future__ import annotations

import re

from sottovoce.metrics.error_rate import CJK, unspaced
from sottovoce.metrics.normalization import normalize
from sottovoce.samples.languages import UNSPACED, language_code

Edit = tuple[str, str, str]
"""Operation with the text of the reference and of the hypothesis: ``=``, ``substitute``, ``delete`` or ``insert``."""

_NAMES = {"equal": "=", "replace": "substitute", "delete": "delete", "insert": "insert"}
_WORD = re.compile(rf"[{CJK}]|[^\s{CJK}]+|\s+")


def align(reference: str, hypothesis: str, *, by_word: bool = False) -> tuple[Edit, ...]:
    """Return the operations that make the hypothesis of the reference, with the least number of edits.

    Args:
        reference: A text.
        hypothesis: Another one.
        by_word: If true, words are the units, with a Chinese character or kana as a word; else characters are.
    """
    from rapidfuzz.distance import Levenshtein

    split = _WORD.findall if by_word else list
    before, after = split(reference), split(hypothesis)
    return tuple(
        (
            _NAMES[code.tag],
            "".join(before[code.src_start : code.src_end]),
            "".join(after[code.dest_start : code.dest_end]),
        )
        for code in Levenshtein.opcodes(before, after)
    )


def count_edits(edits: tuple[Edit, ...]) -> int:
    """Return the number of characters that were substituted, deleted or inserted."""
    return sum(max(len(before), len(after)) for name, before, after in edits if name != "=")


def comparable(text: str, language: str | None) -> str:
    """Return a text as error rates compare it: normalized, without spaces that mean nothing.

    Args:
        text: A text.
        language: Its name or code; ``None`` leaves all but the space around the text.
    """
    return text.strip() if language is None else unspaced(normalize(text, language))


def is_spaced(language: str | None) -> bool:
    """Return true for a language that puts spaces between words, so that words are what one compares."""
    return language is not None and language_code(language) not in UNSPACED
