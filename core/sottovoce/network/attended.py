"""Calls to a hub that end when no data moves any more, and at once when the user interrupts them.

The clients wait forever or retry for minutes, in threads that Ctrl-C does not reach. So a call runs in its own thread,
and the caller waits for its result, an interruption, or its line to be dead.
"""

from __future__ import annotations

import contextvars
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sottovoce.errors import SottovoceError, UsageError
from sottovoce.network.line import Abandoned, Line

VARIABLE = "SOTTOVOCE_HUB_TIMEOUT"
DEFAULT = 60.0
_LONGEST = 1_000_000.0
_LOOK = 0.1
"""Seconds between two checks of a call."""

_Result = TypeVar("_Result")

_local = threading.local()
_open: list[Line] = []
_threads: list[threading.Thread] = []
"""Threads of abandoned calls."""


def current() -> Line | None:
    """Return the line of the call that this thread works for; ``None`` if it works for none.

    The clients' worker threads do not say which call they belong to. A thread that started while a call ran is assigned
    to that call, even after the call was abandoned.
    """
    line: Line | None = getattr(_local, "line", None)
    if line is None or line.ended:
        thread = threading.current_thread()
        line = _local.line = next((line for line in reversed(_open) if line.has(thread)), None)
    return line


def time_limit() -> float:
    """Return the number of seconds that a hub may be silent.

    Raises:
        UsageError: The environment variable is not a valid number of seconds.
    """
    text = os.environ.get(VARIABLE) or str(DEFAULT)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UsageError(f"{VARIABLE}: {text[:50]!r} is not a number of seconds; give one, such as {DEFAULT:g}")
    return min(limit, _LONGEST)


def attended(call: Callable[[], _Result], problem: Callable[[str], SottovoceError]) -> _Result:
    """Make a call to a hub, and wait for it as long as data moves.

    Args:
        call: Function to call; its connections are watched, see :mod:`sottovoce.network.sockets`.
        problem: Builds the error to raise from a reason, such as "it sent almost nothing for 60 s".

    Raises:
        UsageError: The time limit is not a number.
        SottovoceError: No data moved any more.
    """
    line, outcome = Line(time_limit()), Future[_Result]()
    work = (contextvars.copy_context().run, _work, call, outcome)
    thread = threading.Thread(target=work[0], args=work[1:], name="hub", daemon=True)
    _open.append(line)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_LOOK)
            if line.is_dead() and not outcome.done():
                raise problem(f"it sent almost nothing for {line.limit:g} s ({VARIABLE})")
        line.ended = True
    except BaseException:
        line.stop()
        if thread.ident is not None:
            _threads.append(thread)
        raise
    finally:
        _open.remove(line)
    if isinstance(outcome.exception(), Abandoned):
        raise problem("it was abandoned together with another call")
    return outcome.result()


def is_anything_left(seconds: float = 1.0) -> bool:
    """Return true if abandoned calls still run after ``seconds``: a client may be asleep."""
    end = time.monotonic() + seconds
    for thread in _threads:
        thread.join(max(end - time.monotonic(), 0))
    return any(thread.is_alive() for thread in _threads)


def _work(call: Callable[[], Any], outcome: Future[Any]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)
