"""The form of a transcription request, as OpenAI's clients send it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from sottovoce.samples.languages import find_language
from sottovoce.serving.api_errors import ApiError

if TYPE_CHECKING:
    from starlette.datastructures import FormData

FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
_STREAMED = ("json", "text", "diarized_json")
_GRANULARITIES = ("segment", "word")
_UNUSED = ("chunking_strategy", "user")
"""Fields of OpenAI's API that change nothing here: long audio is always cut."""
_FIELDS = frozenset(
    {"file", "model", "language", "prompt", "hotwords", "response_format", "temperature", "stream", "include[]"}
    | {"timestamp_granularities[]", "timestamp_granularities", *_UNUSED}
)
_MOST_HOTWORDS = 200


@dataclass(frozen=True, kw_only=True)
class TranscriptionForm:
    """Checked form of a request."""

    file: IO[bytes]
    model: str | None
    language: str | None
    hotwords: tuple[str, ...]
    """Words that the model must take: another model is an error."""
    prompt: tuple[str, ...]
    """Words of OpenAI's ``prompt``, which are likely too; a model without hotwords works without them."""
    response_format: str
    granularities: frozenset[str]
    stream: bool


def read_form(form: FormData) -> TranscriptionForm:
    """Check a form.

    Raises:
        ApiError: 400, a field is missing, unknown or of a wrong value.
    """
    if known := sorted(name for name in form if name.startswith("known_speaker_")):
        message = f"{known[0]}: this service tells speakers apart, and knows none by name; leave it out"
        raise ApiError(400, message, parameter=known[0])
    if unknown := sorted(set(form) - _FIELDS):
        raise ApiError(400, f"unknown field {unknown[0][:60]!r}; fields: {', '.join(sorted(_FIELDS))}")
    if "include[]" in form:
        raise ApiError(
            400, "include[] asks for log-probabilities, which this service does not give", parameter="include[]"
        )
    response_format = _choice(form, "response_format", FORMATS, "json")
    granularities = _granularities(form)
    if granularities and response_format != "verbose_json":
        raise ApiError(
            400, "timestamp_granularities needs response_format=verbose_json", parameter="timestamp_granularities"
        )
    stream = _choice(form, "stream", ("true", "false", "1", "0"), "false") in ("true", "1")
    if stream and response_format not in _STREAMED:
        raise ApiError(400, f"stream=true needs response_format {' or '.join(_STREAMED)}", parameter="stream")
    _check_temperature(_text(form, "temperature"))
    return TranscriptionForm(
        file=file_in(form),
        model=_text(form, "model"),
        language=language_in(form),
        hotwords=_words(_text(form, "hotwords")),
        prompt=_words(_text(form, "prompt")),
        response_format=response_format,
        granularities=granularities or frozenset({"segment"}),
        stream=stream,
    )


def file_in(form: FormData) -> IO[bytes]:
    """Return the uploaded audio.

    Raises:
        ApiError: 400, there is none, or it has no content.
    """
    upload: Any = form.get("file")
    if upload is None or isinstance(upload, str):
        raise ApiError(400, "the field 'file' with the audio is missing", parameter="file")
    if not upload.size:
        raise ApiError(400, "the audio is empty: a file of 0 bytes", parameter="file")
    file: IO[bytes] = upload.file
    return file


def language_in(form: FormData) -> str | None:
    """Return the field ``language``.

    Raises:
        ApiError: 400, it is not a language.
    """
    language = _text(form, "language")
    if language is not None and find_language(language) is None:
        message = f"{language[:40]!r} is not a language; give a name or an ISO code, such as zh"
        raise ApiError(400, message, parameter="language")
    return language


def _text(form: FormData, name: str) -> str | None:
    """Return a field of text; an empty one counts as missing, as browsers send it."""
    value = form.get(name)
    if value is not None and not isinstance(value, str):
        raise ApiError(400, f"the field {name!r} must be text, not a file", parameter=name)
    return value or None


def _choice(form: FormData, name: str, choices: tuple[str, ...], default: str) -> str:
    value = (_text(form, name) or default).lower()
    if value not in choices:
        raise ApiError(400, f"{name}={value[:40]!r} is unknown; choose {', '.join(choices)}", parameter=name)
    return value


def _granularities(form: FormData) -> frozenset[str]:
    name = "timestamp_granularities"
    # Many clients leave the brackets out, and some send both values in one field.
    values = [str(value) for spelling in (f"{name}[]", name) for value in form.getlist(spelling)]
    chosen = frozenset(part.strip() for value in values for part in value.split(",") if part.strip())
    if unknown := sorted(chosen - set(_GRANULARITIES)):
        message = f"{name}={unknown[0][:40]!r} is unknown; choose {', '.join(_GRANULARITIES)}"
        raise ApiError(400, message, parameter=name)
    return chosen


def _check_temperature(text: str | None) -> None:
    """Refuse what is not a temperature; what is said does not depend on it, since nothing is drawn at random."""
    try:
        value = float(text or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 2:
        raise ApiError(400, "temperature must be a number from 0 to 2", parameter="temperature")


def _words(text: str | None) -> tuple[str, ...]:
    words = tuple(re.split(r"[\s,;，；、。]+", text.strip(" \n\t,;，；、。"))) if text and text.strip() else ()
    words = tuple(word for word in words if word)
    if len(words) > _MOST_HOTWORDS:
        raise ApiError(400, f"{len(words)} hotwords are too many; give {_MOST_HOTWORDS} at most", parameter="hotwords")
    return words
