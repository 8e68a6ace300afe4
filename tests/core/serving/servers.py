"""Services of small models on loopback, in a thread of this process."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from openai import OpenAI

from sottovoce.errors import CancelledError
from sottovoce.serving.app import build_app
from sottovoce.serving.loading import load_models
from sottovoce.serving.models import ServedModels
from sottovoce.serving.run import address_of, build_server, listening
from sottovoce.serving.settings import Settings
from sottovoce.transcription.transcript import Segment

EXAMPLES = Path(__file__).parents[3] / "examples"
MODELS = EXAMPLES / "models"
SPEECH = EXAMPLES / "data/mandarin-commands/test/test-0001.flac"
SAID = "请把客厅的灯关闭"


@functools.cache
def load(name: str, compare: str | None = None, aligner: str | None = None) -> ServedModels:
    """The bundled models, loaded once for all tests."""
    others = {"compare": compare, "aligner": aligner}
    named = {option: str(MODELS / other) for option, other in others.items() if other}
    return load_models(str(MODELS / name), **named)


@contextmanager
def running(models: ServedModels, **options: Any) -> Iterator[str]:
    """The address of a service that runs during the block; without a page, unless it is asked for."""
    settings = Settings(**{"port": 0, "page": False, **options})
    with listening(settings) as listener:
        server = build_server(_built(models, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive())
            yield address_of(listener)
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


def _built(models: ServedModels, settings: Settings) -> Any:
    """The application, built where an event loop runs: elsewhere Gradio makes one and leaves it open."""

    async def build() -> Any:
        return build_app(models, settings)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(build())
    return build_app(models, settings)


def client(url: str, key: str = "none") -> OpenAI:
    """OpenAI's client of a service, which asks once."""
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)


def until(condition: Any, seconds: float = 20.0) -> None:
    """Wait for a condition, which must hold at last."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class Paced:
    """Stand-in for a transcriber, whose segments the test releases one by one; it has as many as are asked for."""

    def __init__(self, count: int = 1) -> None:
        self.count, self.begun, self.cancelled = count, 0, 0
        self.released = threading.Semaphore(0)

    def steps(self, audio: Any, **options: Any) -> Iterator[Segment]:
        """Yield segments when the test says so, or end when the caller is gone."""
        self.begun += 1
        for number in range(self.count):
            while not self.released.acquire(timeout=0.01):
                if options["cancelled"]():
                    self.cancelled += 1
                    raise CancelledError("the transcription was cancelled")
            yield Segment(text=str(number), start=float(number), end=number + 1.0)


def paced(transcriber: Any, name: str = "tiny-paraformer") -> ServedModels:
    """The bundled model with a stand-in in the place of its transcriber."""
    models = load(name)
    return ServedModels((replace(models.first, transcriber=transcriber),))
