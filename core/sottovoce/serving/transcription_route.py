"""``POST /v1/audio/transcriptions``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from sottovoce.serving.api_errors import ApiError, as_api_error
from sottovoce.serving.jobs import Done, Ready
from sottovoce.serving.transcribe import Transcribed, transcription
from sottovoce.serving.transcription_form import TranscriptionForm, read_form
from sottovoce.serving.transcription_formats import Letters, respond
from sottovoce.serving.uploads import form_of, read_limited
from sottovoce.transcription.transcript import Segment, Transcript

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from sottovoce.serving.service import Service, Work


def add_route(app: FastAPI, service: Service) -> None:
    """Add the route to an application."""

    async def transcribe(request: Request) -> Response:
        """Transcribe audio."""
        stack = contextlib.AsyncExitStack()
        async with stack:
            form = read_form(await stack.enter_async_context(form_of(request, service.settings.limits)))
            work = _work(service, form)
            if not form.stream:
                transcribed: Transcribed = await service.result(request, work)
                return respond(transcribed.transcript, form)
            # The file must outlive this function.
            return await _stream(service, request, work, form.response_format, stack.pop_all())

    app.add_route("/v1/audio/transcriptions", transcribe, methods=["POST"])


def _work(service: Service, form: TranscriptionForm) -> Work:
    served = service.models.choose(form.model)
    if form.hotwords and not served.takes_hotwords:
        raise ApiError(400, f"the model {served.name} takes no hotwords", parameter="hotwords")
    if form.response_format == "diarized_json" and not served.tells_speakers:
        message = "this service does not tell speakers apart; start it with --vad and --spk"
        raise ApiError(400, message, parameter="response_format")
    prompt = form.prompt if served.takes_hotwords else ()

    def read() -> Any:
        return read_limited(form.file, service.settings.limits)

    hotwords, words = (*form.hotwords, *prompt), "word" in form.granularities
    return transcription(service, served, read, hotwords=hotwords, language=form.language, needs_words=words)


async def _stream(
    service: Service, request: Request, work: Work, form: str, files: contextlib.AsyncExitStack
) -> Response:
    """Return server-sent events; what fails before the first segment is answered as an ordinary error."""
    from fastapi.responses import StreamingResponse

    events = service.events(request, work)
    try:
        first = await anext(events)
    except BaseException:
        await files.aclose()
        raise

    class Stream(StreamingResponse):
        """Response whose files and work end with it, also if it was cancelled before it began."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async with files, contextlib.aclosing(events):
                await super().__call__(scope, receive, send)

    return Stream(_lines(first, events, form), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _lines(event: Ready | Done, events: AsyncGenerator[Ready | Done], form: str) -> AsyncIterator[str]:
    """Yield OpenAI's events; an error ends the stream with an event, since the status is sent already."""
    segments: list[Segment] = []
    letters = Letters()
    try:
        while isinstance(event, Ready):
            if (segment := event.value.segment) is not None:
                yield _line({"type": "transcript.text.delta", "delta": _delta(segments, segment)})
                if form == "diarized_json":
                    yield _line(letters.segment(len(segments), segment))
                segments.append(segment)
            event = await anext(events)
        yield _line({"type": "transcript.text.done", "text": event.value.transcript.text})
    except Exception as error:
        yield _line(as_api_error(error).to_dict())
    yield "data: [DONE]\n\n"


def _delta(segments: list[Segment], segment: Segment) -> str:
    """Return the text by which a segment makes those before it longer."""
    before = Transcript(segments=tuple(segments), duration=0.0).text
    return Transcript(segments=(*segments, segment), duration=0.0).text[len(before) :]


def _line(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
