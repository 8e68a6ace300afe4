"""The line to a hub during one call: what moves on it, and for how long nothing does."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

LEAST = 1000
"""Bytes that must move within the time limit: a hub that gives one a second gives nothing."""


class Abandoned(BaseException):
    """The call is given up; no ``except Exception`` of a client tries once more."""


class Line:
    """What moves between us and a hub during one call, and how long it has been waited for."""

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
        """Pages of listings that came."""
        self.ended = False
        """Whether the call has come to its own end."""

    def has(self, thread: threading.Thread) -> bool:
        """Whether a thread works for the call: those that were there before it do not."""
        return thread not in self._others

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for the hub; what else a call does, hashing say, may take long."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """Begin to wait.

        Raises:
            Abandoned: The call was given up.
        """
        self.check()
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting += 1

    def end(self) -> None:
        """Wait no longer."""
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._waited += time.monotonic() - self._since

    def received(self, connection: object, count: int) -> None:
        """Note bytes that came."""
        with self._lock:
            self._answered.add(connection)
            self._move(count)

    def sent(self, connection: object, count: int) -> None:
        """Note bytes that went; after an answer they are the next request, which has all the time again."""
        with self._lock:
            self._move(LEAST if connection in self._answered else count)
            self._answered.discard(connection)

    def _move(self, count: int) -> None:
        self._moved += count
        if self._moved >= LEAST:
            self._moved, self._waited, self._since = 0, 0.0, time.monotonic()

    def is_dead(self) -> bool:
        """Whether too little has moved for too long."""
        with self._lock:
            running = time.monotonic() - self._since if self._waiting else 0.0
            return self._waited + running >= self.limit

    def at_stop(self, act: Callable[[], object]) -> None:
        """Note what ends a part of the call that does not look whether to go on."""
        self._acts.append(act)

    def stop(self) -> None:
        """Give the call up: every thread of it that waits, or begins to, ends."""
        self._stopped = True
        for act in self._acts:
            act()

    def check(self) -> None:
        """Look whether to go on.

        Raises:
            Abandoned: The call was given up.
        """
        if self._stopped:
            raise Abandoned
