"""Praat's TextGrid, the long text format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sottovoce_forced_aligner.alignment import Word


def textgrid(words: Sequence[Word], duration: float) -> str:
    """An interval tier ``words``; words without length, which no interval can have, are points of another tier."""
    duration = max([duration, *(word.end for word in words)])
    tiers = [_intervals([word for word in words if word.end > word.start], duration)]
    if points := [word for word in words if word.end <= word.start]:
        tiers.append(_points(points, duration))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_number(duration)}",
            "tiers? <exists>", f"size = {len(tiers)}", "item []:"]  # fmt: skip
    body = [line for number, tier in enumerate(tiers, 1) for line in (f"    item [{number}]:", *tier)]
    return "\n".join([*head, *body, ""])


def _intervals(words: Sequence[Word], duration: float) -> list[str]:
    """The words, and the silence between them: the intervals of a tier leave nothing out."""
    intervals, place = [], 0.0
    for word in words:
        start = max(word.start, place)
        if start > place:
            intervals.append((place, start, ""))
        if word.end > start:
            intervals.append((start, word.end, word.text))
            place = word.end
    if duration > place:
        intervals.append((place, duration, ""))
    lines = [*_tier("IntervalTier", "words", duration), f"        intervals: size = {len(intervals)}"]
    for number, (begin, end, text) in enumerate(intervals, 1):
        lines += [f"        intervals [{number}]:", f"            xmin = {_number(begin)}",
                  f"            xmax = {_number(end)}", f"            text = {_quoted(text)}"]  # fmt: skip
    return lines


def _points(words: Sequence[Word], duration: float) -> list[str]:
    lines = [*_tier("TextTier", "words without length", duration), f"        points: size = {len(words)}"]
    for number, word in enumerate(words, 1):
        lines += [f"        points [{number}]:", f"            number = {_number(word.start)}",
                  f"            mark = {_quoted(word.text)}"]  # fmt: skip
    return lines


def _tier(kind: str, name: str, duration: float) -> list[str]:
    return [f'        class = "{kind}"', f'        name = "{name}"', "        xmin = 0",
            f"        xmax = {_number(duration)}"]  # fmt: skip


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
