"""Running a function in a forked process: its memory, its processor time and its end are measured."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 20
"""Of processor time that a function may take, or of waiting for nothing."""
_PATIENCE = 6 * SECONDS
"""Seconds on the clock: other processes may have the processor."""
_STACK = 4096


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    value: Any = None
    """What the function gave; ``None`` where it did not return."""
    death: str = ""
    """The signal or the exit status that ended it early."""
    hung: bool = False
    peak: int = 0
    """Bytes of memory at most, what was inherited included."""
    seconds: float = 0.0
    """Of processor time."""


def run(function: Callable[[], Any], scratch: Path, memory: int) -> Ending:
    """Call a function in a forked process and wait for its end.

    Args:
        function: What it gives must pass through pickle. It calls :func:`forget_peak` when it begins what counts.
        scratch: An empty directory, for the answer and for what is printed.
        memory: Bytes that the child may take beyond what it begins with; more is refused by the system.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _serve(function, scratch, memory)
    try:
        hung, peak, seconds = _watch(child)
        status = os.waitpid(child, 0)[1]
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    answer = scratch / "answer"
    if answer.is_file():
        value, peak, seconds = pickle.loads(answer.read_bytes())
        return Ending(value=value, peak=peak, seconds=seconds)
    return Ending(death="" if hung else _death(status), hung=hung, peak=peak, seconds=seconds)


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew."""
    with contextlib.suppress(OSError):  # Some kernels cannot; the peak is then one since the fork.
        Path("/proc/self/clear_refs").write_text("5")


def _serve(function: Callable[[], Any], scratch: Path, memory: int) -> None:
    """Be the child: never returns."""
    status = 70
    try:
        os.setsid()
        output = os.open(scratch / "printed", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = _status(os.getpid(), "VmData") + memory
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        value = function()
        used, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        # A process that it started counts as well: the larger of the two.
        peak = max(_status(os.getpid(), "VmHWM"), 1024 * others.ru_maxrss)
        content = pickle.dumps((value, peak, used.ru_utime + used.ru_stime + others.ru_utime + others.ru_stime))
        (scratch / "part").write_bytes(content)
        (scratch / "part").rename(scratch / "answer")
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _watch(child: int) -> tuple[bool, int, float]:
    """Wait until a child ends or is to be ended; whether it hung, its peak so far, and its processor time."""
    handle, began, moved, used, peak = os.pidfd_open(child), time.monotonic(), time.monotonic(), 0.0, 0
    try:
        while not select.select([handle], [], [], 0.1)[0]:
            peak = max(peak, _status(child, "VmHWM"))
            seconds, now = _seconds(child), time.monotonic()
            if seconds > used + 0.05:
                used, moved = seconds, now
            waits = now - moved > SECONDS / 2 and now - began > SECONDS
            if seconds > SECONDS or waits or now - began > _PATIENCE:
                os.kill(child, signal.SIGKILL)
                return True, peak, seconds
        return False, peak, used
    finally:
        os.close(handle)


def _status(process: int, key: str) -> int:
    """A figure of a process in bytes; zero where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return 1024 * int(line.split()[1])
    return 0


def _seconds(process: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit {os.WEXITSTATUS(status)}"
