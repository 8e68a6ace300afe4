"""Batches that are prepared in a thread while the one before is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Prefetcher(Generic[Batch]):
    """Preparation of batches one after another, one ahead."""

    def __init__(self, prepare: Callable[[int], Batch], first: int) -> None:
        """Begin with the batch ``first``.

        Args:
            prepare: Function that returns the batch of a number.
            first: Number of the first batch.
        """
        self._prepare = prepare
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._number, self._next = first, self._executor.submit(prepare, first)

    def take(self) -> Batch:
        """Return the next batch, and begin with the one after it."""
        future: Future[Batch] = self._next
        self._number += 1
        self._next = self._executor.submit(self._prepare, self._number)
        return future.result()

    def close(self) -> None:
        """End the thread; what it has begun is lost."""
        self._executor.shutdown(wait=True, cancel_futures=True)
