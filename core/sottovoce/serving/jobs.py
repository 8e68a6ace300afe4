"""Work on requests in one thread, so that a model runs for one request at a time and the service still answers.

Requests take turns, one step each: a short clip does not wait until an hour of audio is done. One thread serves all
models, since a thread that computes has worker threads of its own, and more of them than cores slow all down.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from sottovoce.errors import CancelledError
from sottovoce.report.number_format import counted
from sottovoce.serving.api_errors import ApiError, as_api_error

_log = logging.getLogger("sottovoce.serving")


@dataclass(frozen=True)
class Ready:
    """A part of the result, such as one segment of speech."""

    value: Any


@dataclass(frozen=True)
class Done:
    """The whole result: what the work's generator returned."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """The work ended with an error."""

    error: BaseException


Event = Ready | Done | Failed


@dataclass(eq=False)
class Job:
    """Work on one request; its generator runs in the worker's thread alone."""

    work: Callable[[Job], Generator[Any, None, Any]]
    deliver: Callable[[Event], None]
    _seconds: float = 0.0
    _begin: float | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _steps: Generator[Any, None, Any] | None = None

    def cancel(self) -> None:
        """Stop the work at its next chance; it may be called from any thread, and after the end."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Return true once the work is no longer wanted."""
        return self._cancelled.is_set()

    def elapsed(self) -> float:
        """Return the seconds that the work took until now, without waiting; called by the work itself."""
        return self._seconds + (0.0 if self._begin is None else time.perf_counter() - self._begin)

    def advance(self) -> bool:
        """Run one step and deliver what it gives; return false after the last one."""
        self._begin = time.perf_counter()
        event = self._step()
        self._seconds, self._begin = self.elapsed(), None
        if not isinstance(event, Ready):
            # The generator's frame holds the audio.
            self._steps = None
        self.deliver(event)
        return isinstance(event, Ready)

    def _step(self) -> Event:
        try:
            if self.is_cancelled():
                if self._steps is not None:
                    self._steps.close()
                return Failed(CancelledError("the request was cancelled"))
            self._steps = self._steps or self.work(self)
            return Ready(next(self._steps))
        except StopIteration as end:
            return Done(end.value)
        except BaseException as error:
            # Libraries in Rust raise what is not an Exception; nothing of a request may end the thread.
            _log.debug("the work on a request failed", exc_info=error)
            return Failed(error)


class Worker:
    """Thread in which requests take turns.

    Args:
        waiting: Requests that may wait; further ones are refused.
        running: Requests that take turns.
    """

    def __init__(self, *, waiting: int, running: int) -> None:
        self._most_waiting, self._most_running = waiting, running
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="sottovoce-model", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of the requests that wait, and of those that take turns."""
        with self._changed:
            return self._count_waiting(), len(self._running)

    def submit(self, work: Callable[[Job], Generator[Any, None, Any]], deliver: Callable[[Event], None]) -> Job:
        """Queue work; ``deliver`` is called in the worker's thread with every event.

        Raises:
            ApiError: 503, too many requests wait or the service stops.
        """
        job = Job(work, deliver)
        with self._changed:
            places = self._most_waiting + self._most_running - len(self._running)
            if self._closed:
                raise ApiError(503, "the service is being stopped", code="stopping")
            if (count := self._count_waiting()) >= places:
                raise ApiError(
                    503, f"{counted(count, 'request')} already in the queue; try again later", code="queue_full"
                )
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def run(
        self, work: Callable[[Job], Generator[Any, None, Any]], started: Callable[[Job], object] = lambda job: None
    ) -> Iterator[Ready | Done]:
        """Yield the events of work in the calling thread; a caller that stops early cancels it.

        Args:
            work: Function that returns a generator.
            started: Called with the job, so that another thread can cancel it.

        Raises:
            ApiError: As :meth:`submit`; or the answer to the work's error.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        job = self.submit(work, events.put)
        started(job)
        try:
            while True:
                event = events.get()
                if isinstance(event, Failed):
                    raise as_api_error(event.error) from event.error
                yield event
                if isinstance(event, Done):
                    return
        finally:
            job.cancel()

    def close(self, patience: float = 5.0) -> None:
        """Cancel all work and wait for the step that runs, but no longer than ``patience`` seconds."""
        with self._changed:
            self._closed = True
            for job in (*self._waiting, *self._running):
                job.cancel()
            self._changed.notify_all()
        self._thread.join(patience)

    def _count_waiting(self) -> int:
        return sum(not job.is_cancelled() for job in self._waiting)

    def _loop(self) -> None:
        while turn := self._next_turn():
            for job in turn:
                if not job.advance():
                    with self._changed:
                        self._running.remove(job)

    def _next_turn(self) -> list[Job]:
        """Wait for work; return the requests whose turn it is, or none when the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or self._closed)
            # Those that were cancelled while they waited only have to hear it.
            while self._waiting and (len(self._running) < self._most_running or self._waiting[0].is_cancelled()):
                self._running.append(self._waiting.popleft())
            return list(self._running)
