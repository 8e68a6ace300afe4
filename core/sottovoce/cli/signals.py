"""Clean end of the process on a signal, even if a library loses the exception."""

from __future__ import annotations

import signal
import time

INTERRUPTED = 130


class Terminated(BaseException):
    """The process was asked to end."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.reason, self.exit_code = reason, exit_code
        self.left = "nothing was left half-written"
        """What the process leaves behind."""


_requests: list[Terminated] = []
"""Requests to end the process: some libraries lose an exception from a signal while they are imported."""
_PATIENCE = 1.0
"""Seconds after a request in which another one is ignored, because the first is being handled."""
_raised = float("-inf")
"""Time of the last request."""


def handle_signals() -> None:
    """Let a terminated process clean up as an interrupted one does; handlers of others stay."""
    global _raised
    _requests.clear()
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
    _requests.append(Terminated("interrupted", INTERRUPTED) if interrupted else Terminated("terminated", 128 + number))
    raise KeyboardInterrupt if interrupted else _requests[-1]


def ignore_signals() -> None:
    """Ignore further signals, shortly before the process ends."""
    global _raised
    _raised = float("inf")
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) == _end:
            signal.signal(number, signal.SIG_IGN)


def end_if_requested() -> None:
    """Raise the last request to end the process, if there is one; called between long pieces of work."""
    if _requests:
        raise _requests[-1]
