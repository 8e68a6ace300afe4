"""Speakers of segments, by the turns that a diarizer gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sottovoce.transcription.subtitles import CLOSING, written
from sottovoce.transcription.transcript import Segment, SpeakerTurn

_CLAUSE_ENDS = frozenset("，。？！、；：…,.?!;:")


def split_by_speaker(segment: Segment, turns: Sequence[SpeakerTurn]) -> Iterator[Segment]:
    """Yield a segment with its speaker, split where clauses of different speakers meet.

    A clause ends at a punctuation mark. Where words have no times, the segment is one clause: times are never guessed.

    Args:
        segment: The segment, its text with punctuation.
        turns: Turns of speakers of the whole audio, in order; without any, the segment stays as it is.
    """
    if not turns:
        yield segment
        return
    words = segment.words
    if not words:
        yield replace(segment, speaker=speaker_of(segment.start, segment.end, turns))
        return
    pieces = written(words, segment.text, " ")
    clauses = list(_clauses(pieces))
    labels = [speaker_of(words[first].start, words[last - 1].end, turns) for first, last in clauses]
    for label, group in itertools.groupby(zip(clauses, labels, strict=True), key=lambda clause: clause[1]):
        spans = [span for span, _ in group]
        first, last = spans[0][0], spans[-1][1]
        yield replace(
            segment,
            text="".join(pieces[first:last]).strip() if last - first < len(words) else segment.text,
            start=words[first].start if first else segment.start,
            end=words[last - 1].end if last < len(words) else segment.end,
            words=words[first:last],
            speaker=label,
            cut_off=segment.cut_off and last == len(words),
        )


def speaker_of(start: float, end: float, turns: Sequence[SpeakerTurn]) -> str:
    """Return the label of who speaks longest between two times, or of the nearest turn where nobody does.

    Args:
        start: Start in seconds.
        end: End in seconds.
        turns: At least one turn.
    """
    seconds: dict[str, float] = {}
    for turn in turns:
        overlap = min(end, turn.end) - max(start, turn.start)
        if overlap > 0:
            seconds[turn.label] = seconds.get(turn.label, 0.0) + overlap
    if seconds:
        return max(seconds, key=lambda label: seconds[label])
    return min(turns, key=lambda turn: max(turn.start - end, start - turn.end)).label


def _clauses(pieces: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield first word and end of each clause."""
    first = 0
    for number, piece in enumerate(pieces, 1):
        if number == len(pieces) or piece.rstrip(CLOSING)[-1:] in _CLAUSE_ENDS:
            yield first, number
            first = number
