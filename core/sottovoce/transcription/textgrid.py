"""Praat's TextGrid, the long text format.

Praat and the programs that read its files take no interval without length, no interval that begins before the one
before it ends, and no two points at one time. All times are compared as they are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sottovoce.transcription.transcript import Word

Interval = tuple[float, float, str]
"""Begin, end and label."""

DIGITS = 6
"""Decimals of a written time."""
_HEAD = ('File type = "ooTextFile"', 'Object class = "TextGrid"', "")


def textgrid(words: Mapping[str, Sequence[Word]], duration: float, *, space: str = " ") -> str:
    """Return interval tiers of words, and tiers of points for words without length, which no interval can have.

    Args:
        words: By name of a tier, its words with their times in seconds.
        duration: Length of the audio in seconds; words that end later make the grid longer.
        space: Text between words that are one point since they are at one time.
    """
    laid_out = {name: _laid_out(tier, space) for name, tier in words.items()}
    times = [time for intervals, points in laid_out.values() for time in (*(end for _, end, _ in intervals), *points)]
    duration = max([round(duration, DIGITS), *times])
    tiers = []
    for name, (intervals, points) in laid_out.items():
        tiers.append(_intervals(name, intervals, duration))
        if points:
            tiers.append(_points(f"{name} without length", points, duration))
    head = [*_HEAD, "xmin = 0", f"xmax = {_number(duration)}", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    body = [line for number, tier in enumerate(tiers, 1) for line in (f"    item [{number}]:", *tier)]
    return "\n".join([*head, *body, ""])


def _laid_out(words: Sequence[Word], space: str) -> tuple[list[Interval], dict[float, str]]:
    """Return the words that get an interval, in order, and by their times those that do not.

    A word begins when the one before it ends at the earliest; what is then left without length is a point as well.
    """
    intervals: list[Interval] = []
    points: dict[float, str] = {}
    place = 0.0
    for word in words:
        start, end = max(round(word.start, DIGITS), place), round(word.end, DIGITS)
        if end > start:
            intervals.append((start, end, word.text))
            place = end
        else:
            time = max(0.0, round(word.start, DIGITS))
            points[time] = f"{points[time]}{space}{word.text}" if time in points else word.text
    return intervals, dict(sorted(points.items()))


def _intervals(name: str, words: Sequence[Interval], duration: float) -> list[str]:
    """Return the lines of the words, and the silence between them: the intervals of a tier leave nothing out."""
    filled: list[Interval] = []
    place = 0.0
    for word in [*words, (duration, duration, "")]:
        if word[0] > place:
            filled.append((place, word[0], ""))
        if word[1] > word[0]:
            filled.append(word)
        place = word[1]
    lines = [*_tier("IntervalTier", name, duration), f"        intervals: size = {len(filled)}"]
    for number, (begin, end, text) in enumerate(filled, 1):
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {_number(begin)}",
            f"            xmax = {_number(end)}",
            f"            text = {_quoted(text)}",
        ]
    return lines


def _points(name: str, points: dict[float, str], duration: float) -> list[str]:
    lines = [*_tier("TextTier", name, duration), f"        points: size = {len(points)}"]
    for number, (time, text) in enumerate(points.items(), 1):
        lines += [
            f"        points [{number}]:",
            f"            number = {_number(time)}",
            f"            mark = {_quoted(text)}",
        ]
    return lines


def _tier(kind: str, name: str, duration: float) -> list[str]:
    lines = (f'class = "{kind}"', f"name = {_quoted(name)}", "xmin = 0", f"xmax = {_number(duration)}")
    return [f"        {line}" for line in lines]


def _number(seconds: float) -> str:
    return f"{seconds:.{DIGITS}f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
