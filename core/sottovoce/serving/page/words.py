"""Words on the waveform, as HTML: each is a button that plays it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from sottovoce.serving.page.texts import say
from sottovoce.serving.page.waveform import drawing
from sottovoce.transcription.subtitles import columns
from sottovoce.transcription.transcript import Segment, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROW = 8.0
"""Seconds of audio in a row."""
_MOST_ROWS = 300
_COLUMN, _BORDER = 0.1, 0.1
"""Seconds of audio that are as wide as a column of text, and as the border of a word."""


def words_html(segments: Sequence[Segment], peaks: NDArray[np.float32], path: str, language: str) -> str:
    """Return a player with a row of the waveform for every few seconds, and the words at their times.

    Args:
        segments: What is said.
        peaks: Loudness, as :func:`.waveform.peaks_of` gives it.
        path: File of the audio, which the page may read.
        language: Language of the page.
    """
    rows = [row for segment in segments for row in _rows(segment)]
    if not rows:
        return ""
    shown = "".join(_row(start, end, words, peaks, language) for start, end, words in rows[:_MOST_ROWS])
    more = say("more", language, count=len(rows) - _MOST_ROWS) if len(rows) > _MOST_ROWS else ""
    # The address is relative, for a page that is not at the root of its host.
    source = html.escape(f"gradio_api/file={quote(path)}")
    player = f'<audio controls preload="metadata" src="{source}"></audio>'
    rows_html = f'<div class="rows">{shown}</div><p>{more}</p>'
    return f'<div class="words" lang="{language}"><p>{say("words", language)}</p>{player}{rows_html}</div>'


def _rows(segment: Segment) -> Iterator[tuple[float, float, tuple[Word, ...]]]:
    """Yield start, end and words of each row; a segment without times of words is one word."""
    if not segment.words:
        yield segment.start, segment.end, (Word(segment.text, segment.start, segment.end),)
        return
    row: list[Word] = []
    for word in segment.words:
        if row and word.end - row[0].start > _ROW:
            yield row[0].start, max(row[-1].end, word.start), tuple(row)
            row = []
        row.append(word)
    yield row[0].start, max(row[-1].end, row[0].start + 0.1), tuple(row)


def _row(start: float, end: float, words: Sequence[Word], peaks: NDArray[np.float32], language: str) -> str:
    # A row that is not full is as much shorter: a second has the same width everywhere.
    width = min(100.0, 100 * max(end - start, 0.5) / _ROW)
    buttons, place = "", 0.0
    for word in words:
        # Short words would hide one another: a word begins at its time, or behind the word before it.
        place = max(word.start - start, place)
        buttons += _button(word, place / (end - start), end - start, language)
        place += max(word.end - word.start, _COLUMN * columns(word.text) + _BORDER)
    return (
        f'<div class="row"><span class="time">{_clock(start)}</span><div class="wave" style="width:{width:.1f}%">'
        f'{drawing(peaks, start, end)}<div class="line">{buttons}</div></div></div>'
    )


def _button(word: Word, place: float, seconds: float, language: str) -> str:
    left, width = 100 * place, 100 * max(0.0, word.end - word.start) / seconds
    name = html.escape(say("play", language, word=word.text, start=word.start, end=word.end))
    return (
        f'<button type="button" style="left:{left:.2f}%;min-width:{width:.2f}%" data-start="{word.start:.3f}" '
        f'data-end="{word.end:.3f}" aria-label="{name}" title="{name}">{html.escape(word.text)}</button>'
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
