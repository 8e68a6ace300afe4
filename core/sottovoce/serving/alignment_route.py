"""``POST /v1/audio/alignments``: when each word of a known text is said."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.jobs import Job
from sottovoce.serving.transcription_form import file_in, language_in
from sottovoce.serving.uploads import form_of, read_limited
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.transcription import functions
from sottovoce.transcription.transcript import Word

if TYPE_CHECKING:
    import numpy as np
    from fastapi import FastAPI, Request
    from numpy.typing import NDArray
    from starlette.responses import Response

    from sottovoce.serving.models import ServedModel
    from sottovoce.serving.service import Service, Work

_FIELDS = frozenset({"file", "text", "language", "model"})


@dataclass(frozen=True)
class Aligned:
    """Words of a text with their times, and the length of the audio in seconds."""

    words: tuple[Word, ...]
    duration: float


def add_route(app: FastAPI, service: Service) -> None:
    """Add the route to an application."""
    from fastapi.responses import JSONResponse

    async def align(request: Request) -> Response:
        """Find when each word of a text is said."""
        async with form_of(request, service.settings.limits) as form:
            if unknown := sorted(set(form) - _FIELDS):
                raise ApiError(400, f"unknown field {unknown[0][:60]!r}; fields: {', '.join(sorted(_FIELDS))}")
            name, text, language = form.get("model"), form.get("text"), language_in(form)
            served = choose_aligner(service, name if isinstance(name, str) else None)
            if not isinstance(text, str) or not text.strip():
                raise ApiError(400, "the field 'text' with what is said is missing", parameter="text")
            file = file_in(form)
            work = alignment(
                service, served, lambda: read_limited(file, service.settings.limits), text.strip(), language
            )
            aligned: Aligned = await service.result(request, work)
        words = [{"word": word.text, "start": word.start, "end": word.end} for word in aligned.words]
        return JSONResponse({"text": text.strip(), "duration": aligned.duration, "words": words})

    app.add_route("/v1/audio/alignments", align, methods=["POST"])


def choose_aligner(service: Service, name: str | None) -> ServedModel:
    """Return the model that aligns.

    Raises:
        ApiError: 404, there is no such model; 400, it does not align.
    """
    served = service.models.choose(name, service.models.aligner)
    if served.model.architecture.runner.align is None:
        message = f"the model {served.name} does not align words; start the service with --aligner"
        raise ApiError(400, message, parameter="model")
    return served


def alignment(
    service: Service,
    served: ServedModel,
    read: Callable[[], NDArray[np.float32]],
    text: str,
    language: str | None,
) -> Work:
    """Return work that returns :class:`Aligned`; the arguments are as in :func:`.transcribe.transcription`."""

    def work(job: Job) -> Generator[Any, None, Any]:
        audio = read()
        begin = job.elapsed()
        words = functions.align(served.model, audio, text, language)
        if not words:
            raise ApiError(400, "the text has no words to align", parameter="text")
        duration = len(audio) / SAMPLE_RATE
        service.measures.count_work(served.name, duration, job.elapsed() - begin)
        return Aligned(words, round(duration, 3))
        yield  # what makes this a generator

    return work


def words_of(aligned: Aligned) -> list[dict[str, Any]]:
    """Return the words for JSON."""
    return [asdict(word) for word in aligned.words]
