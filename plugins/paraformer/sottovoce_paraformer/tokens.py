"""Tokens of a text: Chinese characters one by one, other words whole."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")


def tokens_of(text: str) -> tuple[str, ...]:
    """Return the characters and words of a text."""
    return tuple(_TOKEN.findall(text))
