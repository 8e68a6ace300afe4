"""Delay of signals between two steps that belong together, and during cleanup."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a process to end."""


@contextmanager
def held_back() -> Iterator[None]:
    """Delay signal handlers, such as Python's own for Ctrl-C, until the block has ended.

    Only the main thread gets signals; in others nothing is changed. A signal without a handler is not delayed.
    """
    received: list[tuple[int, FrameType | None]] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _ASKING if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda *arguments: received.append(arguments))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in received[:1]:
            handlers[signal.Signals(number)](number, frame)
