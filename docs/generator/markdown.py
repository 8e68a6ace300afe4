"""Docstrings and lists as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

WIDTH = 116


def as_markdown(docstring: str) -> str:
    """Return a docstring's text with its markup as Markdown's."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", docstring)
    return text.replace("``", "`").replace("\b\n", "")


def filled(text: str, first: str = "", rest: str = "") -> str:
    """Return a paragraph in lines of at most ``WIDTH`` characters."""
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def item(title: str, text: str) -> str:
    """Return an item of a list: a title, and a text with it."""
    return filled(f"{title}: {as_markdown(text)}" if text else title, "- ", "  ")


def paragraphs(docstring: str | None) -> list[str]:
    """Return the paragraphs of a docstring, up to its first section or example."""
    text = re.split(
        r"\n\s*(?:Args|Attributes|Returns|Raises|Example|Examples):\s*\n", inspect.cleandoc(docstring or "")
    )
    return [filled(as_markdown(part)) for part in text[0].split("\n\n") if part.strip()]


def first_paragraph(kind: type) -> str:
    """Return the first paragraph of a class's docstring."""
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]


def sections(docstring: str | None) -> Iterator[str]:
    """Yield the arguments, the result and the errors of a docstring, each a title and a list."""
    text = inspect.cleandoc(docstring or "")
    for title in ("Args", "Returns", "Raises"):
        if section := re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", text, re.M):
            yield f"{title}:"
            yield section_list(section[1])


def section_list(text: str) -> str:
    """Return a section of a docstring as a list."""
    entries = re.split(r"\n(?=\*{0,2}\w+: )", inspect.cleandoc(text))
    return "\n".join(filled(re.sub(r"^(\*{0,2}\w+): ", r"`\1`: ", as_markdown(entry)), "- ", "  ") for entry in entries)
