"""Markdown from text that nobody vouches for: a name may hold a pipe, a line break or HTML, and stays a name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(
    r"[&<>|`*\[\]~$\\]"
    r"|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])"  # emphasis; not the underscores inside a name
    r"|^[#+=-]|^\d(?=\d*[.)](\s|$))"  # what would begin a heading or a list
    r"|:(?=//)|(?<=www)\."  # what would become a link by itself
)
_URL = re.compile(r"https?://[\w.:-]+(/[\w.~%/@+=&?#-]*)?", re.ASCII)


class Markdown(str):
    """Text that is Markdown already, and is not escaped again."""

    __slots__ = ()


def plain(value: object) -> str:
    """Return one line: control characters, line breaks and runs of spaces become single spaces."""
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in str(value))
    return " ".join(kept.split())


def text(value: object) -> Markdown:
    """Escape what Markdown and HTML would read as more than text, in a line, a list or a table."""
    if isinstance(value, Markdown):
        return value
    # Entities rather than backslashes: renderers disagree on what a backslash does to a pipe in a table.
    return Markdown(_SPECIAL.sub(lambda match: f"&#{ord(match[0][0])};", plain(value)))


def code(value: object) -> Markdown:
    """Return a name, a digest or a command within a line."""
    content = plain(value)
    if not content:
        return Markdown("")
    return Markdown(f"<code>{text(content)}</code>" if re.search(r"[`|$\\]", content) else f"`{content}`")


def fence(content: str, language: str) -> Markdown:
    """Return a block of code."""
    kept = "".join(char for char in content if char in "\n\t" or unicodedata.category(char)[0] != "C")
    longest = max((len(run) for run in re.findall("`+", kept)), default=0)
    marks = "`" * max(3, longest + 1)
    return Markdown(f"{marks}{language}\n{kept.rstrip()}\n{marks}")


def link(label: object, url: str) -> Markdown:
    """Return a link; the label alone when ``url`` is not a plain web address."""
    return Markdown(f"[{text(label)}]({url})") if _URL.fullmatch(url) else text(label)


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], align: str = "") -> Markdown:
    """Return a table.

    Args:
        headers: The columns' names.
        rows: The cells, as many in each as there are headers.
        align: ``l`` or ``r`` for every column; by default the first is on the left, the others on the right.
    """
    align = align or "l" + "r" * (len(headers) - 1)
    rules = ["---:" if side == "r" else "---" for side in align]
    lines: list[Sequence[str]] = [[text(cell) for cell in row] for row in (headers, *rows)]
    lines.insert(1, rules)
    return Markdown("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def folded(summary: object, content: str) -> Markdown:
    """Return content that is folded away below its summary."""
    return Markdown(f"<details>\n<summary>{text(summary)}</summary>\n\n{content}\n\n</details>")
