"""SubRip subtitles: words in lines that people can read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sottovoce_forced_aligner.languages import UNSPACED
from sottovoce_forced_aligner.words import Word

LONGEST = 7.0
"""Seconds that one subtitle stays at most, unless a single word is longer."""
SHORTEST = 0.08
"""Seconds that one stays at least: players drop a subtitle of no length."""
_SENTENCE_ENDS = frozenset("。！？.!?…")
_CLOSING = " \n\t\r\u3000\"')]}”’）】」』》"


@dataclass
class _Cue:
    """A subtitle, its times in whole milliseconds."""

    begin: int
    end: int
    lines: list[str]


def srt(words: Sequence[Word], text: str, language: str, *, width: int, pause: float) -> str:
    """Return the words as SubRip, written as ``text`` writes them.

    Subtitles follow one another: none begins before the one before it ends, and none is without length, whatever the
    words' times are.
    """
    cues = _cues(words, written(words, text, language), width, pause)
    return "\n".join(
        f"{number}\n{_time(cue.begin)} --> {_time(cue.end)}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(cues, 1)
    )


def _cues(words: Sequence[Word], pieces: Sequence[str], width: int, pause: float) -> list[_Cue]:
    """Return the subtitles; one that would begin before the one before it was seen is another line of that one."""
    shortest = round(1000 * SHORTEST)
    cues: list[_Cue] = []
    for first, last in _lines(words, pieces, width, pause):
        line = " ".join("".join(pieces[first:last]).split())
        if not line:
            continue
        begin = max(0, round(1000 * words[first].start))
        end = max(begin, *(round(1000 * word.end) for word in words[first:last]))
        if cues and begin < cues[-1].begin + shortest:
            cues[-1].lines.append(line)
            cues[-1].end = max(cues[-1].end, end)
        else:
            if cues:
                cues[-1].end = min(cues[-1].end, begin)
            cues.append(_Cue(begin, end, [line]))
        cues[-1].end = max(cues[-1].end, cues[-1].begin + shortest)
    return cues


def written(words: Sequence[Word], text: str, language: str) -> list[str]:
    """Return the piece of ``text`` for each word, with the punctuation and space behind it; together they are ``text``.

    Words are letters of the text in order, if of another width (nagisa's are). Where they are not, the words themselves
    are taken.
    """
    letters = [(letter, place) for place, written in enumerate(text) for letter in _plain(written)]
    folded = "".join(letter for letter, _ in letters)
    starts, place = [], 0
    for word in words:
        first = None
        for letter in _plain(word.text):
            place = folded.find(letter, place) + 1
            if not place:
                break
            first = place - 1 if first is None else first
        if first is None or not place:
            space = "" if language in UNSPACED else " "
            return [word.text + space for word in words]
        starts.append(_opening(text, letters[first][1]))
    return [text[begin:end] for begin, end in zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True)]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text)


def _opening(text: str, begin: int) -> int:
    """Return the place of the first opening quote or bracket of the word at ``begin``."""
    while begin:
        before = text[begin - 2 : begin - 1]
        straight = text[begin - 1] in "\"'" and (not before or before.isspace())
        if not straight and unicodedata.category(text[begin - 1]) not in ("Ps", "Pi"):
            break
        begin -= 1
    return begin


def _lines(words: Sequence[Word], pieces: Sequence[str], width: int, pause: float) -> Iterator[tuple[int, int]]:
    """Yield first word and end of each subtitle."""
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
    """Return the width of a line; a full-width character counts two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def _time(milliseconds: int) -> str:
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
