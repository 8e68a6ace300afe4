"""Everything that the routes of the API and the page share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from sottovoce.serving.api_errors import as_api_error
from sottovoce.serving.jobs import Done, Event, Failed, Job, Ready, Worker
from sottovoce.serving.measures import Measures

if TYPE_CHECKING:
    from fastapi import Request

    from sottovoce.serving.models import ServedModels
    from sottovoce.serving.settings import Settings

Work = Callable[[Job], Generator[Any, None, Any]]
"""Function that returns a generator: it yields parts of a result and returns the whole one."""


class Service:
    """Models, their worker, settings and counters."""

    def __init__(self, models: ServedModels, settings: Settings) -> None:
        self.models, self.settings = models, settings
        self.worker = Worker(waiting=settings.limits.waiting, running=settings.limits.running)
        self.measures = Measures(models, self.worker)

    async def events(self, request: Request | None, work: Work) -> AsyncGenerator[Ready | Done]:
        """Yield the events of work on a request; it is cancelled when the caller closes the connection.

        Args:
            request: The request; ``None`` for one whose connection somebody else watches.
            work: The work.

        Raises:
            ApiError: 503, too many requests wait; or the answer to the work's error.
        """
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(event: Event) -> None:
            # The loop is closed when the service ends while a step still ran.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(events.put_nowait, event)

        job = self.worker.submit(work, deliver)
        watch = None if request is None else asyncio.create_task(_cancel_when_gone(request, job))
        try:
            while True:
                event = await events.get()
                if isinstance(event, Failed):
                    raise as_api_error(event.error) from event.error
                yield event
                if isinstance(event, Done):
                    return
        finally:
            job.cancel()
            if watch is not None:
                watch.cancel()

    async def result(self, request: Request | None, work: Work) -> Any:
        """Return what work on a request returns.

        Raises:
            ApiError: As :meth:`events`.
        """
        async with contextlib.aclosing(self.events(request, work)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.value
        raise RuntimeError("work ended without a result")

    def close(self) -> None:
        """Cancel all work."""
        self.worker.close()


async def _cancel_when_gone(request: Request, job: Job) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancel()
