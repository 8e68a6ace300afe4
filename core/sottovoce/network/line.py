"""Connection to a hub during one call: the data that moves, and the time spent waiting."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

LEAST = 1000
"""Bytes that must move within the time limit: a hub that sends one byte a second counts as silent."""


class Abandoned(BaseException):
    """The call was abandoned; not an ``Exception``, so that no client catches it and retries."""


class Line:
    """Counter of the data that moves during one call to a hub, and of the time spent waiting for it."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._stopped = False
        self._acts: list[Callable[[], object]] = []
        self._moved = 0
        self._waiting, self._since, self._waited = 0, 0.0, 0.0
        self._answered: weakref.WeakSet[Any] = weakref.WeakSet()
        self._others = weakref.WeakSet(threading.enumerate())
        self.pages = 0
        """Pages of listings that were received."""
        self.ended = False
        """If true, the call has returned or raised by itself."""

    def has(self, thread: threading.Thread) -> bool:
        """Return true if a thread works for the call, that is, started after it."""
        return thread not in self._others

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for the hub; other work of a call, such as hashing, may take long."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """Begin to wait.

        Raises:
            Abandoned: The call was abandoned.
        """
        self.check()
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting += 1

    def end(self) -> None:
        """Stop waiting."""
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._waited += time.monotonic() - self._since

    def received(self, connection: object, count: int) -> None:
        """Count received bytes."""
        with self._lock:
            self._answered.add(connection)
            self._move(count)

    def sent(self, connection: object, count: int) -> None:
        """Count sent bytes; after an answer they belong to the next request, for which the time starts again."""
        with self._lock:
            self._move(LEAST if connection in self._answered else count)
            self._answered.discard(connection)

    def _move(self, count: int) -> None:
        self._moved += count
        if self._moved >= LEAST:
            self._moved, self._waited, self._since = 0, 0.0, time.monotonic()

    def is_dead(self) -> bool:
        """Return true if too little data has moved for too long."""
        with self._lock:
            running = time.monotonic() - self._since if self._waiting else 0.0
            return self._waited + running >= self.limit

    def at_stop(self, act: Callable[[], object]) -> None:
        """Register a function that ends a part of the call which does not call :meth:`check`."""
        self._acts.append(act)

    def stop(self) -> None:
        """Abandon the call: all its threads that wait, or begin to, end."""
        self._stopped = True
        for act in self._acts:
            act()

    def check(self) -> None:
        """Raise an error if the call was abandoned.

        Raises:
            Abandoned: It was.
        """
        if self._stopped:
            raise Abandoned
