"""Watched sockets, used by both hubs' clients, in which no thread waits forever."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sottovoce.network.attended import current

_SLICE = 0.2
"""Seconds after which a waiting thread checks if its call was abandoned."""

_Result = TypeVar("_Result")

if TYPE_CHECKING:
    _Socket = socket.socket
else:
    _Socket = object


class _Watched(_Socket):
    """Socket that reports its data to the line of its call, and ends when the call is abandoned."""

    __slots__ = ()

    def recv(self, *arguments: Any) -> bytes:
        content = self._patiently(lambda: super(_Watched, self).recv(*arguments))
        if line := current():
            line.received(self, len(content))
        return content

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        count = self._patiently(lambda: super(_Watched, self).recv_into(*arguments, **options))
        if line := current():
            line.received(self, count)
        return count

    def send(self, *arguments: Any) -> int:
        count = self._patiently(lambda: super(_Watched, self).send(*arguments))
        if line := current():
            line.sent(self, count)
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        # In several steps, so that progress is known.
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def _patiently(self, step: Callable[[], _Result]) -> _Result:
        """Repeat a step that times out early, until the socket's own limit is reached."""
        line, limit = current(), self.gettimeout()
        if line is None or limit == 0:
            return step()
        end = time.monotonic() + (2 * line.limit if limit is None else limit)
        with line.waiting():
            try:
                while True:
                    line.check()
                    self.settimeout(max(min(_SLICE, end - time.monotonic()), 0.001))
                    try:
                        return step()
                    except TimeoutError:
                        if time.monotonic() >= end:
                            raise
            finally:
                with contextlib.suppress(OSError):
                    self.settimeout(limit)


class WatchedSocket(_Watched, socket.socket):
    """Watched socket without encryption."""

    __slots__ = ()


class WatchedTls(_Watched, ssl.SSLSocket):
    """Watched socket with TLS."""


def watch(connection: object) -> None:
    """Watch a connected socket; anything else is left as it is.

    The clients create their sockets themselves and offer no hook, so this changes the class of the socket; the watched
    classes add no instance attributes.
    """
    if type(connection) is socket.socket:
        connection.__class__ = WatchedSocket
    elif type(connection) is ssl.SSLSocket:
        connection.__class__ = WatchedTls
