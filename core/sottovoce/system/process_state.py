"""What all threads of a process share and libraries change while they work: changed by one at a time, and put back.

While a model is built, libraries replace functions of PyTorch and of their own, warnings' filters and default types,
each putting back what it saw when it began. Two threads at once would put back what the other had replaced, for good.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from sottovoce.system.interruption import held_back


class _Turn(threading.local):
    """How often the thread that asks has entered."""

    depth = 0


_lock, _turn = threading.Lock(), _Turn()


def _begin_anew() -> None:
    """Take a new lock after a fork: the thread that may hold the old one does not exist in the new process."""
    global _lock
    _lock, _turn.depth = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def exclusive() -> Iterator[None]:
    """Let no other thread change the process's state meanwhile; one that holds it already enters again.

    Nothing that waits for another thread may run within: that thread may want it too.
    """
    if not _turn.depth:
        _lock.acquire()
    _turn.depth += 1
    try:
        yield
    finally:
        _turn.depth -= 1
        if not _turn.depth:
            _lock.release()


@contextmanager
def released() -> Iterator[None]:
    """Let the others have it while this thread waits for something slow, such as a download."""
    depth, _turn.depth = _turn.depth, 0
    if depth:
        _lock.release()
    try:
        yield
    finally:
        if depth:
            with held_back():
                _lock.acquire()
            _turn.depth = depth


@contextmanager
def ignored_warnings() -> Iterator[None]:
    """Ignore every warning meanwhile; the filters are the process's."""
    with exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Stdout:
    """A standard output that differs by thread: for those that said so another stream, for all others the usual."""

    def __init__(self, usual: TextIO) -> None:
        self.usual, self.others = usual, dict[int, list[TextIO]]()

    def __getattr__(self, name: str) -> Any:
        streams = self.others.get(threading.get_ident())
        return getattr(streams[-1] if streams else self.usual, name)


_stdout_lock = threading.RLock()


@contextmanager
def stdout_to(stream: TextIO) -> Iterator[None]:
    """Send what this thread prints to ``stream`` meanwhile, unlike ``contextlib.redirect_stdout`` no other's.

    It needs no turn: it is used while a module is imported, too, where waiting for one could last for ever.
    """
    if sys.stdout is None:  # closed; nobody's prints go anywhere
        yield
        return
    thread = threading.get_ident()
    with _stdout_lock:
        if not isinstance(sys.stdout, _Stdout):
            sys.stdout = _Stdout(sys.stdout)
        divided: Any = sys.stdout
        divided.others.setdefault(thread, []).append(stream)
    try:
        yield
    finally:
        with _stdout_lock:
            divided.others[thread].pop()
            if not divided.others[thread]:
                del divided.others[thread]
            # Where somebody put another in its place meanwhile, that one stays; this one then changes nothing.
            if not divided.others and sys.stdout is divided:
                sys.stdout = divided.usual
