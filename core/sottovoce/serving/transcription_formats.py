"""Transcripts as responses, in the formats of OpenAI's API."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any

from sottovoce.samples.languages import language_name
from sottovoce.serving.transcribe import untimed
from sottovoce.transcription.files import to_text

if TYPE_CHECKING:
    from starlette.responses import Response

    from sottovoce.serving.transcription_form import TranscriptionForm
    from sottovoce.transcription.transcript import Segment, Transcript


def respond(transcript: Transcript, form: TranscriptionForm) -> Response:
    """Return a transcript in the format that a request asks for.

    Raises:
        ApiError: 400, words are asked for, and neither the model nor an aligner has their times.
    """
    from fastapi.responses import JSONResponse, PlainTextResponse

    if form.response_format == "json":
        return JSONResponse({"text": transcript.text})
    if form.response_format == "verbose_json":
        return JSONResponse(verbose(transcript, form.granularities))
    if form.response_format == "diarized_json":
        return JSONResponse(diarized(transcript))
    if form.response_format == "text":
        return PlainTextResponse(transcript.text + "\n")
    kind = "text/vtt" if form.response_format == "vtt" else "application/x-subrip"
    text = to_text(transcript, form.response_format)
    return PlainTextResponse(text, media_type=kind)


def verbose(transcript: Transcript, granularities: frozenset[str]) -> dict[str, Any]:
    """Return OpenAI's object with times; what no model here measures is ``null`` in it.

    Raises:
        ApiError: 400, words are asked for, and there are no times of words.
    """
    form: dict[str, Any] = {
        "task": "transcribe",
        "language": language_name(transcript.language).lower() if transcript.language else "unknown",
        "duration": transcript.duration,
        "text": transcript.text,
    }
    if "word" in granularities:
        if transcript.text and not transcript.words:
            raise untimed()
        form["words"] = [{"word": word.text, "start": word.start, "end": word.end} for word in transcript.words]
    if "segment" in granularities:
        form["segments"] = [_segment(number, segment) for number, segment in enumerate(transcript.segments)]
    return form


def diarized(transcript: Transcript) -> dict[str, Any]:
    """Return OpenAI's object with speakers."""
    letters = Letters()
    segments = [letters.segment(number, segment) for number, segment in enumerate(transcript.segments)]
    return {
        "task": "transcribe",
        "duration": transcript.duration,
        "text": transcript.text,
        "segments": segments,
        "usage": {"type": "duration", "seconds": math.ceil(transcript.duration)},
    }


class Letters:
    """Speakers as OpenAI's API names them: capital letters in the order in which they first speak."""

    def __init__(self) -> None:
        self._names: dict[str | None, str] = {}

    def segment(self, number: int, segment: Segment) -> dict[str, Any]:
        """Return a segment with its speaker, which is also an event of a stream."""
        return {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03}",
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
            "speaker": self._names.setdefault(segment.speaker, _letters(len(self._names))),
        }


def _letters(number: int) -> str:
    """Return the name of a column: A to Z, AA, AB and so on."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    text = segment.text.encode()
    speaker = {"speaker": segment.speaker} if segment.speaker else {}
    return {
        "id": number,
        "seek": 0,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": None,
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4),
        "no_speech_prob": None,
        **speaker,
    }
