"""A word with its times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One word, or one character of Chinese, with its times in seconds."""

    text: str
    start: float
    end: float
