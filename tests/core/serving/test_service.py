"""A service with several callers: it answers while it works, refuses too much, and stops for those who leave."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from core.serving.servers import SAID, SPEECH, Paced, client, load, paced, running, until
from sottovoce.errors import SourceError, UsageError
from sottovoce.serving import run
from sottovoce.serving.keys import Keys
from sottovoce.serving.settings import Limits
from sottovoce.transcription.transcript import Segment


def post(url: str, **fields: str) -> httpx2.Response:
    return httpx2.post(
        f"{url}/v1/audio/transcriptions", files={"file": ("a.flac", SPEECH.read_bytes())}, data=fields, timeout=30
    )


def health(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = httpx2.get(f"{url}/health").json()
    return answer


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


def test_health_is_answered_while_a_model_works(pool: ThreadPoolExecutor) -> None:
    transcriber = Paced()
    with running(paced(transcriber)) as url:
        answer = pool.submit(post, url)
        until(lambda: transcriber.begun)
        assert health(url) == {"status": "ok", "waiting": 0, "running": 1}
        transcriber.released.release()
        assert answer.result().json() == {"text": "0"}
        until(lambda: health(url)["running"] == 0)


def test_a_second_caller_takes_turns_with_a_long_recording(pool: ThreadPoolExecutor) -> None:
    models = load("tiny-paraformer")
    real = models.first.transcriber
    assert real is not None
    long = threading.Event()

    class Endless:
        def steps(self, audio: Any, **options: Any) -> Iterator[Segment]:
            if options["language"]:  # the short request
                yield from real.steps(audio, **options)
                return
            while not long.is_set() and not options["cancelled"]():
                yield Segment(text="x", start=0.0, end=1.0)

    with running(paced(Endless())) as url:
        first = pool.submit(post, url)
        until(lambda: health(url)["running"] == 1)
        assert post(url, language="zh").json() == {"text": SAID}
        assert not first.done()
        long.set()
        assert first.result().status_code == 200


def test_more_than_may_wait_are_refused_with_a_time_to_try_again(pool: ThreadPoolExecutor) -> None:
    transcriber = Paced()
    with running(paced(transcriber), limits=Limits(waiting=1, running=1)) as url:
        answers = [pool.submit(post, url)]
        until(lambda: health(url)["running"] == 1)
        answers.append(pool.submit(post, url))
        until(lambda: health(url)["waiting"] == 1)
        refused = post(url)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) > 0
        transcriber.released.release(2)
        assert [answer.result().status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_closed_connection_stops_the_work(stream: str) -> None:
    transcriber = Paced(count=3)
    with running(paced(transcriber)) as url:
        transcriber.released.release()
        with contextlib.closing(_send(url, stream)):
            until(lambda: transcriber.begun)
            time.sleep(0.05)
        until(lambda: transcriber.cancelled == 1)
        until(lambda: health(url)["running"] == 0)


def test_a_closed_connection_stops_work_that_waits(pool: ThreadPoolExecutor) -> None:
    transcriber = Paced()
    with running(paced(transcriber), limits=Limits(waiting=1, running=1)) as url:
        first = pool.submit(post, url)
        until(lambda: health(url)["running"] == 1)
        with contextlib.closing(_send(url, "false")):
            until(lambda: health(url)["waiting"] == 1)
        until(lambda: health(url)["waiting"] == 0)
        transcriber.released.release()
        assert first.result().status_code == 200
        until(lambda: health(url) == {"status": "ok", "waiting": 0, "running": 0})
        assert transcriber.begun == 1


def test_a_stream_begins_before_the_work_is_done() -> None:
    transcriber = Paced(count=2)
    with running(paced(transcriber)) as url:
        transcriber.released.release()
        events = iter(client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, stream=True))
        assert next(events).delta == "0"
        transcriber.released.release()
        assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]


class Failing:
    """Stand-in whose second segment fails."""

    def __init__(self, error: BaseException, before: int = 0) -> None:
        self.error, self.before = error, before

    def steps(self, audio: Any, **options: Any) -> Iterator[Segment]:
        for _ in range(self.before):
            yield Segment(text="x", start=0.0, end=1.0)
        raise self.error


class Panic(BaseException):
    """What libraries in Rust raise."""


@pytest.mark.parametrize(
    ("error", "status", "part"),
    [
        (SourceError("tiny: the model does not run (RuntimeError: shape)"), 500, "does not run"),
        (RuntimeError("secret words"), 500, "RuntimeError"),
        (Panic("secret words"), 500, "Panic"),
        (MemoryError(), 507, "memory"),
    ],
)
def test_an_error_of_the_model_is_said_and_the_service_keeps_working(
    error: BaseException, status: int, part: str
) -> None:
    failing = Failing(error)
    with running(paced(failing)) as url:
        answer = post(url)
        assert answer.status_code == status
        assert part in answer.json()["error"]["message"]
        assert "secret" not in answer.text
        failing.error = UsageError("the caller's mistake")
        assert post(url).status_code == 400


def test_an_error_in_a_stream_reaches_the_client() -> None:
    with running(paced(Failing(SourceError("the model does not run"), before=1))) as url:
        events = iter(client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, stream=True))
        assert next(events).delta == "x"
        with pytest.raises(openai.APIError, match="does not run"):
            list(events)


def test_only_callers_with_a_key_are_let_in() -> None:
    keys = Keys(("first-secret", "second-secret"))
    with running(load("tiny-paraformer"), keys=keys) as url:
        with pytest.raises(openai.AuthenticationError, match="key"):
            client(url, "wrong-secret").models.list()
        assert client(url, "second-secret").models.list().data
        assert httpx2.get(f"{url}/v1/models", headers={"x-api-key": "first-secret"}).status_code == 200
        assert httpx2.get(f"{url}/metrics").status_code == 401
        assert httpx2.get(f"{url}/health").status_code == 200


def test_keys_come_from_the_environment_and_are_not_shown() -> None:
    keys = Keys.from_environment({"SOTTOVOCE_API_KEYS": " first-secret, second-secret,"})
    assert keys.accept("second-secret")
    assert not keys.accept("second-secre")
    assert not keys.accept("")
    assert "secret" not in repr(keys)
    assert not Keys.from_environment({})


@pytest.mark.parametrize("value", ["", ",", "short", "schlüssel-eins"])
def test_keys_that_protect_nothing_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="SOTTOVOCE_API_KEYS"):
        Keys.from_environment({"SOTTOVOCE_API_KEYS": value})


def test_a_service_ends_while_a_model_works(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_PATIENCE", 1)
    transcriber = Paced()
    with running(paced(transcriber)) as url:
        answer: Future[httpx2.Response] = pool.submit(post, url)
        until(lambda: transcriber.begun)
    until(lambda: transcriber.cancelled == 1)
    assert answer.exception() is not None or answer.result().status_code >= 500


def _send(url: str, stream: str) -> socket.socket:
    """Send a whole request and return its connection, on which the answer has not been read."""
    form = {"stream": stream}
    request = httpx2.Request(
        "POST", f"{url}/v1/audio/transcriptions", files={"file": ("a", SPEECH.read_bytes())}, data=form
    )
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection = socket.create_connection((request.url.host, request.url.port))
    connection.sendall(f"POST {request.url.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
    return connection
