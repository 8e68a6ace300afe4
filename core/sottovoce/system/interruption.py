"""Signals that must wait a moment: between two steps that belong together, and while something is cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals by which a process is asked to end."""


@contextmanager
def held_back() -> Iterator[None]:
    """Let a handler that raises, such as Python's own of Ctrl-C, do so only when the block has ended.

    Only the main thread gets signals; in another nothing is changed. A signal without a handler is not held back.
    """
    came: list[tuple[int, FrameType | None]] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _ASKING if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda *asked: came.append(asked))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in came[:1]:
            handlers[signal.Signals(number)](number, frame)
