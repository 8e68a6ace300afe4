"""How a process that is asked to end does so: cleanly, and even where a library loses the exception."""

from __future__ import annotations

import signal
import time

INTERRUPTED = 130


class Terminated(BaseException):
    """The process was asked to end."""

    def __init__(self, how: str, exit_code: int) -> None:
        super().__init__(how)
        self.how, self.exit_code = how, exit_code


_asked: list[Terminated] = []
"""What the process was asked to end by: while FunASR is imported, an exception from a signal is lost there."""
_PATIENCE = 1.0
"""Seconds after a request in which another means the same: the first is on its way."""
_raised = float("-inf")
"""When the last request was raised."""


def handle_signals() -> None:
    """Let a terminated process clean up as an interrupted one does; handlers that somebody else set stay."""
    global _raised
    _asked.clear()
    _raised = float("-inf")
    for number, ordinary in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == ordinary:
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    global _raised
    if time.monotonic() < _raised + _PATIENCE:
        return
    _raised = time.monotonic()
    interrupted = number == signal.SIGINT
    _asked.append(Terminated("interrupted", INTERRUPTED) if interrupted else Terminated("terminated", 128 + number))
    raise KeyboardInterrupt if interrupted else _asked[-1]


def ignore_signals() -> None:
    """Let nothing come between the last word and the end, which is near."""
    global _raised
    _raised = float("inf")
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) == _end:
            signal.signal(number, signal.SIG_IGN)


def end_if_asked() -> None:
    """Raise what the process was asked to end by, when it was; between long pieces of work."""
    if _asked:
        raise _asked[-1]
