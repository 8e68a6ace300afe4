"""Subtitles: words in lines that people can read."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sottovoce.transcription.transcript import Word

WIDTH = 42
"""Columns of a line; a Chinese character takes two."""
PAUSE = 0.6
"""Seconds of silence that end a subtitle."""
LONGEST = 7.0
"""Seconds that one subtitle stays at most, unless a single word is longer."""
SHORTEST = 0.08
"""Seconds that one stays at least: players drop a subtitle of no length."""
_UNIT = r"[\u3040-\u30ff\u3400-\u9fff][\u3001-\u3011\uff00-\uff0f\uff1a-\uff1f]*|[^\s\u3040-\u30ff\u3400-\u9fff]+|\s+"
"""Expression for what is not broken: a Chinese character with the marks behind it, or a word."""
_SENTENCE_ENDS = frozenset("。！？.!?…")
CLOSING = " \n\t\r\u3000\"')]}”’）】」』》"


class Span(NamedTuple):
    """A line, its times in seconds, and who says it, where speakers were told apart."""

    start: float
    end: float
    text: str
    speaker: str | None = None


@dataclass
class Cue:
    """A subtitle, its times in whole milliseconds."""

    begin: int
    end: int
    lines: list[str]
    voices: dict[int, str] = field(default_factory=dict)
    """Speakers by the number of the line that they begin with."""


def word_cues(words: Sequence[Word], text: str, *, space: str, width: int = WIDTH, pause: float = PAUSE) -> list[Cue]:
    """Return subtitles of words, written as ``text`` writes them.

    Subtitles follow one another: none begins before the one before it ends, and none is without length, whatever the
    words' times are.

    Args:
        words: The words in order, with their times in seconds.
        text: What they are part of, with punctuation.
        space: Text between words, for words that are not those of the text.
        width: Columns of a line; a Chinese character takes two.
        pause: Seconds of silence that end a subtitle.
    """
    return follow_one_another(word_spans(words, text, space=space, width=width, pause=pause))


def word_spans(words: Sequence[Word], text: str, *, space: str, width: int = WIDTH, pause: float = PAUSE) -> list[Span]:
    """Return the lines that words are split into; the arguments are those of word_cues."""
    pieces = written(words, text, space)
    return [
        Span(words[first].start, max(word.end for word in words[first:last]), "".join(pieces[first:last]))
        for first, last in _lines(words, pieces, width, pause)
    ]


def follow_one_another(spans: Iterable[Span], width: int | None = None) -> list[Cue]:
    """Return subtitles of lines; one that begins before the last was seen is another line of that.

    Args:
        spans: The lines, in order of time.
        width: Columns after which a text is broken into lines; by default it is not.
    """
    shortest = round(1000 * SHORTEST)
    cues: list[Cue] = []
    for start, stop, text, speaker in spans:
        line = " ".join(text.split())
        if not line:
            continue
        lines = [line] if width is None else broken(line, width, columns(_prefix(speaker)))
        begin = max(0, round(1000 * start))
        end = max(begin, round(1000 * stop))
        if cues and begin < cues[-1].begin + shortest:
            if speaker:
                cues[-1].voices[len(cues[-1].lines)] = speaker
            cues[-1].lines += lines
            cues[-1].end = max(cues[-1].end, end)
        else:
            if cues:
                cues[-1].end = min(cues[-1].end, begin)
            cues.append(Cue(begin, end, lines, {0: speaker} if speaker else {}))
        cues[-1].end = max(cues[-1].end, cues[-1].begin + shortest)
    return cues


def broken(line: str, width: int, indent: int = 0) -> list[str]:
    """Return a text as lines of at most ``width`` columns; a longer word is a line by itself.

    Args:
        line: The text.
        width: Columns of a line.
        indent: Columns of the first line that are taken.
    """
    lines = [""]
    for piece in re.findall(_UNIT, line):
        free = width - indent if len(lines) == 1 else width
        if lines[-1].strip() and columns(f"{lines[-1]}{piece}".strip()) > free:
            lines.append("")
        lines[-1] += piece
    return [text.strip() for text in lines]


def to_text(cues: Sequence[Cue], form: Literal["srt", "vtt", "ass"]) -> str:
    """Return subtitles in a format.

    SubRip and Advanced SubStation Alpha have speakers before their lines, WebVTT has voice spans.
    """
    from pysubs2 import SSAEvent, SSAFile

    file = SSAFile()
    for cue in cues:
        voices = [cue.voices.get(number) for number in range(len(cue.lines))]
        lines = [_spoken(line, voice, form) for line, voice in zip(cue.lines, voices, strict=True)]
        file.append(SSAEvent(start=cue.begin, end=cue.end, text="\\N".join(lines), name=_actor(cue)))
    return file.to_string(form, keep_ssa_tags=True).rstrip("\n") + "\n" if cues or form != "srt" else ""


def _actor(cue: Cue) -> str:
    """Return the speaker for the field that Advanced SubStation has, where a comma would end it."""
    speakers = set(cue.voices.values())
    return " ".join(speakers.pop().replace(",", " ").split()) if len(speakers) == 1 else ""


def _prefix(speaker: str | None) -> str:
    return f"{speaker}: " if speaker else ""


def _spoken(line: str, speaker: str | None, form: str) -> str:
    """Return a line with who says it.

    What looks like a tag of a format is text here: it is kept, and escaped where the format has escapes.
    """
    if form == "ass":
        # A word joiner keeps a backslash from beginning a command; a brace would begin a block of them.
        return f"{_prefix(speaker)}{line}".replace("\\", "\\\u2060").replace("{", "\\{")
    if form == "srt":
        return f"{_prefix(speaker)}{line}"
    voice = f"<v {html.escape(speaker, quote=False)}>" if speaker else ""
    return f"{voice}{html.escape(line, quote=False)}"


def written(words: Sequence[Word], text: str, space: str) -> list[str]:
    """Return the piece of ``text`` for each word, with the punctuation and space behind it; together they are ``text``.

    Words are letters of the text in order, if of another width (nagisa's are) or case (as punctuated text may be).
    Where they are not, the words themselves are taken, with ``space`` between them.
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
            return [word.text + space for word in words]
        starts.append(_opening(text, letters[first][1]))
    return [text[begin:end] for begin, end in zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True)]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKD", text).casefold()


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
            or pieces[number - 1].rstrip(CLOSING)[-1:] in _SENTENCE_ENDS
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
