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
    writer.writerow(("start", "end", "text"))
    for segment in transcript.segments:
        text = " ".join(f"{_speaker(segment)}{segment.text}".split())
        writer.writerow((round(1000 * segment.start), round(1000 * segment.end), text))
    return file.getvalue()


def _textgrid(transcript: Transcript) -> str:
    """Return Praat's tiers: words with their times, or else the segments; text without length is a point."""
    space = "" if transcript.text and not transcript.text.isascii() else " "
    segments = [Word(segment.text, segment.start, segment.end) for segment in transcript.segments]
    return textgrid(transcript.words or segments, transcript.duration, space=space)


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
    spans: list[tuple[float, float, str]] = []
    for segment in transcript.segments:
        speaker = _speaker(segment)
        if segment.words:
            space = "" if segment.text and not segment.text.isascii() else " "
            parts = subtitles.word_spans(segment.words, segment.text, space=space, width=width, pause=pause)
        else:
            parts = [(segment.start, segment.end, segment.text)]
        spans += [(start, end, speaker + text) for start, end, text in parts]
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
        TranscriptFormat("textgrid", "Praat's tiers of words, or of segments without times of words", _textgrid),
        TranscriptFormat("tsv", "start and end in milliseconds and text, separated by tabs", _tsv),
    )
}
"""The formats, by name."""

TRANSCRIPT = OutputKind(
    name="a transcript",
    verb="transcribed",
    endings=FORMATS,
    # Subtitles of both kinds, tiers, a table, JSON.
    beginning=re.compile(
        r"1\n\d\d:\d\d:\d\d,\d{3} --> |WEBVTT\n|File type = \"ooTextFile\"|start\tend\ttext\n|\{\n \"text\": "
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
