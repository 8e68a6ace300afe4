"""Files that a transcript is written to, one registry for the command line and Python."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from sottovoce.errors import UsageError
from sottovoce.system.output_file import OutputKind
from sottovoce.transcription import subtitles
from sottovoce.transcription.textgrid import textgrid
from sottovoce.transcription.transcript import Segment, Transcript, Word


@dataclass(frozen=True)
class TranscriptFormat:
    """A format of transcripts; its name is its files' ending."""

    name: str
    label: str
    """Content, for help and documentation."""
    text: Callable[[Transcript], str]
    """Function that returns a transcript in this format."""


def _txt(transcript: Transcript) -> str:
    return "".join(f"{_speaker(segment)}{segment.text}\n" for segment in transcript.segments)


def _json(transcript: Transcript) -> str:
    return json.dumps(transcript.to_dict(), ensure_ascii=False, indent=1) + "\n"


def _tsv(transcript: Transcript) -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
    speakers = any(segment.speaker for segment in transcript.segments)
    writer.writerow(("start", "end", "text", *(["speaker"] if speakers else [])))
    for segment in transcript.segments:
        text = " ".join(segment.text.split())
        speaker = [" ".join((segment.speaker or "").split())] if speakers else []
        writer.writerow((round(1000 * segment.start), round(1000 * segment.end), text, *speaker))
    return file.getvalue()


def _textgrid(transcript: Transcript) -> str:
    """Return Praat's tiers: words with their times, or else the segments; text without length is a point.

    Speakers that were told apart have a tier each, named after them.
    """
    space = "" if transcript.text and not transcript.text.isascii() else " "
    timed = bool(transcript.words)
    tiers: dict[str, list[Word]] = {} if transcript.segments else {"words": []}
    for segment in transcript.segments:
        tier = tiers.setdefault(segment.speaker or "words", [])
        tier += segment.words if timed else [Word(segment.text, segment.start, segment.end)]
    return textgrid(tiers, transcript.duration, space=space)


def cues(
    transcript: Transcript, *, width: int = subtitles.WIDTH, pause: float = subtitles.PAUSE
) -> list[subtitles.Cue]:
    """Return the subtitles of a transcript.

    A segment whose words have times is split after a sentence, a pause and a full line; one without is one subtitle:
    times are never guessed.

    Args:
        transcript: The transcript.
        width: Columns of a line; a Chinese character takes two.
        pause: Seconds of silence that end a subtitle.
    """
    spans: list[subtitles.Span] = []
    for segment in transcript.segments:
        if segment.words:
            space = "" if segment.text and not segment.text.isascii() else " "
            parts = subtitles.word_spans(segment.words, segment.text, space=space, width=width, pause=pause)
        else:
            parts = [subtitles.Span(segment.start, segment.end, segment.text)]
        spans += [part._replace(speaker=segment.speaker) for part in parts]
    return subtitles.follow_one_another(spans, width)


def _speaker(segment: Segment) -> str:
    return f"{segment.speaker}: " if segment.speaker else ""


FORMATS = {
    form.name: form
    for form in (
        TranscriptFormat("txt", "the text, a line for each segment", _txt),
        TranscriptFormat("json", "text, language, duration, segments and their words with times", _json),
        TranscriptFormat("srt", "SubRip subtitles", lambda transcript: subtitles.to_text(cues(transcript), "srt")),
        TranscriptFormat("vtt", "WebVTT subtitles", lambda transcript: subtitles.to_text(cues(transcript), "vtt")),
        TranscriptFormat(
            "ass", "Advanced SubStation Alpha subtitles", lambda transcript: subtitles.to_text(cues(transcript), "ass")
        ),
        TranscriptFormat("textgrid", "Praat's tiers of words, or of segments without times of words", _textgrid),
        TranscriptFormat(
            "tsv", "start and end in milliseconds, text, and the speaker if there are some, separated by tabs", _tsv
        ),
    )
}
"""The formats, by name."""

TRANSCRIPT = OutputKind(
    name="a transcript",
    verb="transcribed",
    endings=FORMATS,
    # Subtitles of three kinds, tiers, a table, JSON.
    beginning=re.compile(
        r"1\n\d\d:\d\d:\d\d,\d{3} --> |WEBVTT\n|\[Script Info\]\n|File type = \"ooTextFile\"|"
        r"start\tend\ttext[\t\n]|\{\n \"text\": "
    ),
)


def to_text(transcript: Transcript, name: str) -> str:
    """Return a transcript in a format.

    Raises:
        UsageError: There is no such format; lists those that there are.
    """
    if name not in FORMATS:
        raise UsageError(f"format={name!r}: no such format; formats: {', '.join(FORMATS)}")
    return FORMATS[name].text(transcript)
