"""Tables of a report without any library: as text, and as HTML for notebooks."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.text.plain_text import one_line

_LONGEST = 500


@dataclass(frozen=True)
class PlainTable:
    """Rows of text under a title; the first column is on the left, the others are on the right if there is a header."""

    title: str
    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    notes: Sequence[str] = ()
    """Sentences below the rows."""

    def __post_init__(self) -> None:
        """Take out what a terminal would obey: names come from files that nobody vouches for."""
        object.__setattr__(self, "title", one_line(self.title))
        object.__setattr__(self, "rows", [[one_line(cell) for cell in row] for row in self.rows])
        object.__setattr__(self, "notes", [one_line(note, _LONGEST) for note in self.notes])

    def __str__(self) -> str:
        """Return the table as text."""
        lines = [list(row) for row in (self.header, *self.rows) if row]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        return "\n".join([self.title, *(self._line(line, widths) for line in lines), *self.notes])

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = (
            (" " * (width - _width(cell)) + cell) if number and self.header else cell + " " * (width - _width(cell))
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(("", first, *others)).rstrip()

    def to_html(self) -> str:
        """Return the table as HTML; all text is escaped."""
        head = f"<thead>{_row(self.header, 'th')}</thead>" if self.header else ""
        body = "".join(_row(row, "td") for row in self.rows)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{html.escape(self.title)}</caption>{head}<tbody>{body}</tbody></table>{notes}"


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal; Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
