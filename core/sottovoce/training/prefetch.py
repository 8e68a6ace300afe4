"""Batches that are prepared in a thread while the one before is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Preparation of numbered batches, one ahead."""

    def __init__(self, prepare: Callable[[int], Batch], first: int) -> None:
        """Begin with the batch ``first``.

        Args:
            prepare: Function that returns the batch of a number.
            first: Number of the first batch.
        """
        self._prepare = prepare
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[Batch]] = (first, self._executor.submit(prepare, first))

    def take(self, number: int) -> Batch:
        """Return the batch of a number, and begin with the one after it."""
        known, future = self._next
        if known != number:
            future = self._executor.submit(self._prepare, number)
        self._next = number + 1, self._executor.submit(self._prepare, number + 1)
        return future.result()

    def close(self) -> None:
        """End the thread; what it has begun is lost."""
        self._executor.shutdown(wait=True, cancel_futures=True)
