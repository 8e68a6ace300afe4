"""Progress reports of long work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Function that is called with the task, the number of units done, and their total."""


def silent(task: str, done: int, total: int) -> None:
    """Report nothing."""
