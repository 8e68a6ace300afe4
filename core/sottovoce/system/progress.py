"""Progress reports of long work: functions that are called, and a display of them."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
"""Function that is called with the task, the number of units done, and their total."""

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""


NOTEBOOK_INTERVAL = 0.3
"""Seconds between two states of a notebook's line."""


def silent(task: str, done: int, total: int) -> None:
    """Report nothing."""


@contextlib.contextmanager
def shown(progress: Progress | bool) -> Iterator[Progress]:
    """Yield the function that work reports its progress to.

    Args:
        progress: Such a function; true for a display: one live line with the time left in a terminal or a notebook, a
            line every 30 seconds elsewhere, both on standard error; or false for none.
    """
    if callable(progress):
        yield progress
    elif not progress:
        yield silent
    else:
        with display() as report:
            yield report


@contextlib.contextmanager
def display() -> Iterator[Progress]:
    """Yield a function that shows progress on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        with contextlib.closing(NotebookLine()) as line:
            yield line
        return
    if not console.is_terminal:
        yield Lines(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201  (this is what was asked for)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn()),
    )
    with Bar(*columns, console=console) as bar:
        number = bar.add_task("", total=None, visible=False)
        current = ""

        def update(task: str, done: int, total: int) -> None:
            nonlocal current
            if task != current:
                current = task
                bar.reset(number, description=task, total=total, visible=True)
            bar.update(number, completed=done, total=total)

        yield update


class NotebookLine:
    """Progress as one line below a notebook's cell, which is replaced; Rich's display needs widgets for that."""

    def __init__(self) -> None:
        show = importlib.import_module("IPython.display").display
        self._handle = show({"text/plain": ""}, raw=True, display_id=True)
        self._lines = Lines(self._show, NOTEBOOK_INTERVAL)
        self._last = ""

    def __call__(self, task: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of a task are done."""
        self._last = f"{task}: {done} of {total}"
        self._lines(task, done, total)

    def close(self) -> None:
        """Show what was reported last."""
        self._show(self._last)

    def _show(self, line: str) -> None:
        self._handle.update({"text/plain": line}, raw=True)


class Lines:
    """Progress as lines for a log: the first of a task after a while, then one every 30 seconds.

    Args:
        write: Function that writes a line.
        interval: Seconds between two lines.
        clock: Function that returns the time in seconds.
    """

    def __init__(
        self, write: Callable[[str], None], interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write, self._interval, self._clock = write, interval, clock
        self._task, self._begin, self._first = "", clock(), 0
        self._last = self._begin

    def __call__(self, task: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units of a task are done."""
        now = self._clock()
        if task != self._task:
            self._task, self._begin, self._first = task, now, done
        if now - self._last < self._interval:
            return
        self._last = now
        self._write(f"{task}: {done} of {total}{self._left(now, done, total)}")

    def _left(self, now: float, done: int, total: int) -> str:
        """Return the time left at the speed so far, as the end of a line."""
        if done <= self._first:
            return ""
        seconds = round((now - self._begin) / (done - self._first) * (total - done))
        minutes, hours = seconds // 60 % 60, seconds // 3600
        return f", {f'{hours}:{minutes:02}' if hours else minutes}:{seconds % 60:02} left"
