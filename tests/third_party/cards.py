"""Model cards of toys, in both languages."""

from __future__ import annotations

from pathlib import Path

from sottovoce_hub.card import write_card


def cards(directory: Path) -> tuple[str, str]:
    """Return the English and the Chinese card of a compressed model."""
    files = write_card(directory, repository="me/toy", hub="hf")
    return files["README.md"].decode(), files["README_zh.md"].decode()
