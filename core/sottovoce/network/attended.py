"""A call to a hub that ends: when nothing moves any more, and at once when the user interrupts it.

The clients wait without end, or ask again for minutes, and do it in threads that no Ctrl-C reaches. So a call is made
in a thread of its own, and whoever made it waits for its result, for an interruption, or for its line to be dead.
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
"""Seconds between two looks at a call."""

_Result = TypeVar("_Result")

_local = threading.local()
_open: list[Line] = []
_threads: list[threading.Thread] = []
"""Those of calls that were given up."""


def current() -> Line | None:
    """Return the line of the call that this thread works for, ``None`` where it works for none.

    The clients' worker threads do not say whose they are; one that began while a call ran is taken for that call's, and
    stays so when the call was given up.
    """
    line: Line | None = getattr(_local, "line", None)
    if line is None or line.ended:
        thread = threading.current_thread()
        line = _local.line = next((line for line in reversed(_open) if line.has(thread)), None)
    return line


def time_limit() -> float:
    """Return how many seconds a hub may be silent.

    Raises:
        UsageError: The variable that says so holds no such number.
    """
    text = os.environ.get(VARIABLE) or str(DEFAULT)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UsageError(f"{VARIABLE}: {text[:50]!r} is no number of seconds; give one, such as {DEFAULT:g}")
    return min(limit, _LONGEST)


def attended(call: Callable[[], _Result], problem: Callable[[str], SottovoceError]) -> _Result:
    """Make a call to a hub, and wait for it as long as something moves.

    Args:
        call: What to call; its connections are watched, see :mod:`sottovoce.network.sockets`.
        problem: Makes the error to raise of what happened, such as "it gave next to nothing for 60 s".

    Raises:
        UsageError: The time limit is no number.
        SottovoceError: Nothing moved any more.
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
                raise problem(f"it gave next to nothing for {line.limit:g} s ({VARIABLE})")
        line.ended = True
    except BaseException:
        line.stop()
        if thread.ident is not None:
            _threads.append(thread)
        raise
    finally:
        _open.remove(line)
    if isinstance(outcome.exception(), Abandoned):
        raise problem("it was given up together with another call")
    return outcome.result()


def is_anything_left(seconds: float = 1.0) -> bool:
    """Return whether calls that were given up still hold the process ``seconds`` later: a client may be asleep."""
    end = time.monotonic() + seconds
    for thread in _threads:
        thread.join(max(end - time.monotonic(), 0))
    return any(thread.is_alive() for thread in _threads)


def _work(call: Callable[[], Any], outcome: Future[Any]) -> None:
    try:
        outcome.set_result(call())
    except BaseException as error:
        outcome.set_exception(error)
