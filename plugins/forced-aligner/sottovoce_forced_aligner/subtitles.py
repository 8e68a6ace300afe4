"""SubRip subtitles: words in lines that people can read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sottovoce_forced_aligner.languages import UNSPACED

if TYPE_CHECKING:
    from sottovoce_forced_aligner.alignment import Word

LONGEST = 7.0
"""Seconds that one subtitle stays at most, unless a single word is longer."""
SHORTEST = 0.08
"""Seconds that one stays at least: players drop a subtitle of no length."""
_SENTENCE_ENDS = frozenset("。！？.!?…")
_CLOSING = " \n\t\r\u3000\"')]}”’）】」』》"


def srt(words: Sequence[Word], text: str, language: str, *, width: int, pause: float) -> str:
    """The words as SubRip, written as ``text`` writes them."""
    pieces = written(words, text, language)
    cues = []
    for number, (first, last) in enumerate(_lines(words, pieces, width, pause), 1):
        line = " ".join("".join(pieces[first:last]).split())
        begin, end = words[first].start, max(words[last - 1].end, words[first].start + SHORTEST)
        cues.append(f"{number}\n{_time(begin)} --> {_time(end)}\n{line}\n")
    return "\n".join(cues)


def written(words: Sequence[Word], text: str, language: str) -> list[str]:
    """What of ``text`` each word stands for, with the punctuation and space behind it; together they are ``text``.

    Words are letters of the text in order, if of another width (nagisa's are). Where they are not, the words themselves
    are taken.
    """
    letters = [(letter, place) for place, written in enumerate(text) for letter in _plain(written)]
    folded = "".join(letter for letter, _ in letters)
    starts, place = [], 0
    for word in words:
        for number, letter in enumerate(_plain(word.text)):
            place = folded.find(letter, place) + 1
            if not place:
                space = "" if language in UNSPACED else " "
                return [word.text + space for word in words]
            if not number:
                starts.append(_opening(text, letters[place - 1][1]))
    return [text[begin:end] for begin, end in zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True)]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text)


def _opening(text: str, begin: int) -> int:
    """Where what belongs to the word at ``begin`` starts: at its opening quotes and brackets."""
    while begin:
        before = text[begin - 2 : begin - 1]
        straight = text[begin - 1] in "\"'" and (not before or before.isspace())
        if not straight and unicodedata.category(text[begin - 1]) not in ("Ps", "Pi"):
            break
        begin -= 1
    return begin


def _lines(words: Sequence[Word], pieces: Sequence[str], width: int, pause: float) -> Iterator[tuple[int, int]]:
    """First word and end of each subtitle."""
    first = 0
    for number in range(1, len(words)):
        line = "".join(pieces[first : number + 1]).strip()
        if (
            words[number].start - words[number - 1].end >= pause
            or pieces[number - 1].rstrip(_CLOSING)[-1:] in _SENTENCE_ENDS
            or columns(line) > width
            or words[number].end - words[first].start > LONGEST
        ):
            yield first, number
            first = number
    if words:
        yield first, len(words)


def columns(line: str) -> int:
    """How wide a line is; a full-width character counts two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def _time(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
