"""Replaces tables in Markdown files, each between `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of a header and rows of as many cells.

    Raises:
        ValueError: A row has another number of cells.
    """
    if misfits := [row for row in rows if len(row) != len(header)]:
        raise ValueError(f"a row has {len(misfits[0])} cells, the header {len(header)}: {list(misfits[0])}")
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def replace_section(text: str, name: str, content: str) -> str:
    """Return a Markdown text with other content between `<!-- table: NAME -->` and the next `<!-- end -->`.

    Raises:
        ValueError: The text has no such marker, has it twice, or its end is missing.
    """
    start = f"<!-- table: {name} -->"
    if (count := text.count(start)) != 1:
        raise ValueError(f"the marker {start} must occur once, but occurs {count} times")
    section = re.compile(re.escape(start) + r"\n(?:(?!<!-- table: ).)*?<!-- end -->", re.DOTALL)
    if not section.search(text):
        raise ValueError(f"the marker {start} has no <!-- end --> after it")
    return section.sub(lambda _: f"{start}\n{content.strip()}\n<!-- end -->", text)


def write_section(path: Path, name: str, content: str) -> bool:
    """Replace the section in a file, and return whether that changed it.

    Raises:
        ValueError: The file does not have the section once.
    """
    before = path.read_text(encoding="utf-8")
    try:
        after = replace_section(before, name, content)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    path.write_text(after, encoding="utf-8")
    return after != before
