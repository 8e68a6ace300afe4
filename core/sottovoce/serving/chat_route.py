"""``POST /v1/chat/completions`` for models that answer messages with text, audio and images."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.samples import Prediction, Sample
from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.chat_messages import read_messages
from sottovoce.serving.jobs import Job
from sottovoce.serving.uploads import json_of

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.responses import Response

    from sottovoce.serving.models import ServedModel
    from sottovoce.serving.service import Service, Work

_UNUSED = frozenset({"temperature", "top_p", "seed", "user", "metadata", "store", "stream_options"})
"""Fields of OpenAI's API that change nothing: the likeliest answer is always given."""
_ONLY = {"n": (1, None), "modalities": (["text"], None), "logprobs": (False, None), "stop": (None,)}
"""Fields with the values that this service can honor."""
_LENGTHS = ("max_completion_tokens", "max_tokens")
"""Fields with the most tokens of an answer: OpenAI's newer name, and its older one."""
_FIELDS = frozenset({"model", "messages", "stream", *_LENGTHS})


def add_route(app: FastAPI, service: Service) -> None:
    """Add the route to an application."""
    from fastapi.responses import JSONResponse, StreamingResponse

    async def chat(request: Request) -> Response:
        """Answer messages."""
        limits = service.settings.limits
        body = await json_of(request, limits)
        if not isinstance(body, dict):
            raise ApiError(400, "the body must be a JSON object")
        _check_fields(body)
        most = _most_tokens(body)
        served = choose_model(service, body.get("model"))
        messages = await asyncio.to_thread(read_messages, body.get("messages"), limits)
        prediction: Prediction = await service.result(request, answer(service, served, messages, most))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": served.name}
        if body.get("stream"):
            return StreamingResponse(iter(_chunks(head, prediction)), media_type="text/event-stream")
        return JSONResponse(_completion(head, prediction))

    app.add_route("/v1/chat/completions", chat, methods=["POST"])


def choose_model(service: Service, name: Any) -> ServedModel:
    """Return the model that answers.

    Raises:
        ApiError: 404, there is no such model; 400, it does not converse.
    """
    served = service.models.choose(name if isinstance(name, str) else None)
    if not served.converses:
        raise ApiError(400, f"the model {served.name} does not answer messages", parameter="model")
    return served


def answer(
    service: Service, served: ServedModel, messages: list[dict[str, Any]], max_new_tokens: int | None = None
) -> Work:
    """Return work that returns the model's :class:`~sottovoce.Prediction` for messages.

    Args:
        service: The service.
        served: The model.
        messages: The conversation, as in a sample.
        max_new_tokens: Most tokens of the answer; by default what the model allows.
    """

    def work(job: Job) -> Generator[Any, None, Any]:
        sample = Sample(key="request", messages=messages, max_new_tokens=max_new_tokens)
        begin = job.elapsed()
        prediction = served.model.architecture.runner.predict(served.model, sample)
        service.measures.count_work(served.name, sample.seconds, job.elapsed() - begin)
        return prediction
        yield  # what makes this a generator

    return work


def _check_fields(body: Mapping[str, Any]) -> None:
    for name, values in _ONLY.items():
        if name in body and body[name] not in values:
            value = json.dumps(body[name], ensure_ascii=False)[:40]
            raise ApiError(400, f"this service does not support {name}={value}", parameter=name)
    if unknown := sorted(set(body) - _FIELDS - _UNUSED - set(_ONLY)):
        raise ApiError(400, f"this service does not support {unknown[0][:60]!r}; leave it out", parameter=unknown[0])
    if not isinstance(body.get("stream", False), bool | None):
        raise ApiError(400, "'stream' must be true or false", parameter="stream")


def _most_tokens(body: Mapping[str, Any]) -> int | None:
    """Return the most tokens of the answer; ``None`` where the request does not say it."""
    given = {name: body[name] for name in _LENGTHS if body.get(name) is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ApiError(400, f"{name!r} must be a whole number of at least 1", parameter=name)
    if len(set(given.values())) > 1:
        raise ApiError(400, f"{' and '.join(repr(name) for name in given)} differ; send one", parameter="max_tokens")
    return next(iter(given.values()), None)


def _completion(head: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
    message = {"role": "assistant", "content": prediction.text or "", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _reason(prediction), "logprobs": None}
    return {**head, "object": "chat.completion", "choices": [choice]}


def _reason(prediction: Prediction) -> str:
    return "length" if prediction.cut_off else "stop"


def _chunks(head: Mapping[str, Any], prediction: Prediction) -> Iterator[str]:
    message = {"role": "assistant", "content": prediction.text or ""}
    deltas: list[tuple[dict[str, str], str | None]] = [(message, None), ({}, _reason(prediction))]
    for delta, reason in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        form = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        yield f"data: {json.dumps(form, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
