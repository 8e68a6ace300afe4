"""Number of OpenMP threads for work of many short parallel regions: fewer while other processes have the cores.

All threads meet at the end of every region. Where another process has the core of one of them, the others spin there
for nothing. With a busy process for each core, two threads then take three times as long as one thread alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sottovoce.errors import UsageError
from sottovoce.system.environment import THREADS_VARIABLE
from sottovoce.system.machine import openmp_threads, set_openmp_threads

_SLICE = 0.05
"""Seconds between two looks: a shorter disturbance changes nothing."""
_BUSY, _FREE = 0.8, 0.95
"""Share of their time for which the threads have cores, below and above which others do and do not want them."""
_FIRST_HOLD, _LONGEST_HOLD = 0.5, 30.0
"""Seconds for which fewer threads run before more are tried; doubled each time that these were too many."""


@dataclass
class CoreShare:
    """Share of the cores that this process gets, by which the number of its threads is chosen."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    _divisor: int = 1
    _hold: float = _FIRST_HOLD
    _held_until: float = 0.0
    _raised_at: float = -_LONGEST_HOLD

    @contextmanager
    def work(self) -> Iterator[Callable[[], None]]:
        """Run work with as many of the calling thread's OpenMP threads as have cores; all are back afterwards.

        Yields:
            A function to call between parallel regions, often: it looks at the clocks, and may change the number.

        Raises:
            UsageError: ``SOTTOVOCE_THREADS`` has a value that is unknown.
        """
        whole = openmp_threads()
        if whole < 2 or _is_fixed():
            yield _nothing
            return
        stretch = _Stretch(self, whole)
        try:
            yield stretch.look
        finally:
            set_openmp_threads(whole)

    def threads(self, whole: int) -> int:
        """Return how many of ``whole`` threads are to run now."""
        return max(1, whole // self._divisor)

    def judge(self, share: float, whole: int) -> None:
        """Choose the number by the share of their time for which the threads had cores."""
        now = self.wall()
        if share < _BUSY and self._divisor < whole:
            was_too_soon = now - self._raised_at < self._hold
            self._hold = min(2 * self._hold, _LONGEST_HOLD) if was_too_soon else _FIRST_HOLD
            self._divisor *= 2
            self._held_until = now + self._hold
        elif share > _FREE and self._divisor > 1 and now >= self._held_until:
            self._divisor //= 2
            self._raised_at = now


class _Stretch:
    """Work in one thread, looked at slice by slice."""

    def __init__(self, share: CoreShare, whole: int) -> None:
        self._share, self._whole = share, whole
        self._begin()

    def look(self) -> None:
        elapsed = self._share.wall() - self._wall
        if elapsed < _SLICE:
            return
        used = self._share.cpu() - self._cpu
        self._share.judge(used / (elapsed * self._threads), self._whole)
        self._begin()

    def _begin(self) -> None:
        self._threads = self._share.threads(self._whole)
        set_openmp_threads(self._threads)
        self._wall, self._cpu = self._share.wall(), self._share.cpu()


def _is_fixed() -> bool:
    choice = os.environ.get(THREADS_VARIABLE, "")
    if choice not in ("", "adaptive", "fixed"):
        raise UsageError(f"{THREADS_VARIABLE}={choice}: no such choice (known: adaptive, fixed)")
    return choice == "fixed"


def _nothing() -> None:
    pass


CORES = CoreShare()
"""Of this process."""
