"""Exclusive access to state that all threads of a process share and that libraries change while they work.

While a model is built, libraries replace functions of PyTorch and of their own, warning filters and default types, and
restore what they saw at the start. Two threads at once would restore each other's replacements, for good.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from sottovoce.system.interruption import held_back


class _Turn(threading.local):
    """Nesting depth of :func:`exclusive` in the current thread."""

    depth = 0


_lock, _turn = threading.Lock(), _Turn()


def _reset_lock() -> None:
    """Create a new lock after a fork: the thread that may hold the old one does not exist in the new process."""
    global _lock
    _lock, _turn.depth = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock)


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the right to change the process's state during the block; a thread that holds it may enter again.

    The block must not wait for another thread, which may need the same right.
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
    """Give up the right of :func:`exclusive` during the block, for something slow such as a download."""
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
    """Ignore all warnings during the block, with :func:`exclusive` access to the process's filters."""
    with exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Give Python's, NumPy's and PyTorch's generators back the state that they had before the block.

    A caller who seeded them gets the same numbers after a compression as without it. What the block draws is the same.
    """
    state = random.getstate()
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: random.setstate(state))
        if (numpy := sys.modules.get("numpy")) is not None:
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        if (torch := sys.modules.get("torch")) is not None:
            devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
            stack.enter_context(torch.random.fork_rng(devices))
        yield


@contextmanager
def usual_gradients() -> Iterator[None]:
    """Run the block as PyTorch starts: in a caller's ``no_grad`` or ``inference_mode`` nothing could be trained."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def kept_logging() -> Iterator[None]:
    """Give the root logger back its level and its handlers after the block, with :func:`exclusive` access.

    A library that sets both for its own sake would mute the warnings of everyone else, and make a later
    ``logging.basicConfig`` do nothing.
    """
    with exclusive():
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        try:
            yield
        finally:
            root.setLevel(level)
            root.handlers[:] = handlers


class _Stdout:
    """Standard output that differs by thread: another stream for some threads, the usual one for all others."""

    def __init__(self, usual: TextIO) -> None:
        self.usual, self.others = usual, dict[int, list[TextIO]]()

    def __getattr__(self, name: str) -> Any:
        streams = self.others.get(threading.get_ident())
        return getattr(streams[-1] if streams else self.usual, name)


_stdout_lock = threading.RLock()


@contextmanager
def stdout_to(stream: TextIO) -> Iterator[None]:
    """Redirect this thread's standard output to ``stream`` during the block; other threads' stays as it is.

    It does not need :func:`exclusive` access: it is also used while a module is imported, where waiting could deadlock.
    """
    if sys.stdout is None:  # closed: all output is lost anyway
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
            # If it was replaced meanwhile, the replacement stays.
            if not divided.others and sys.stdout is divided:
                sys.stdout = divided.usual
