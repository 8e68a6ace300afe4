"""Collectors: what metrics need of a run besides predictions and times, each declared in its metric's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.samples import Run, Samples

Finish = Callable[["Run"], "Run"]
"""Adder of what was collected to the run; it may use the model again, since the timed run is over."""
Collector = Callable[["Model", "Samples", bool], AbstractContextManager[Finish]]
"""Context of a run on samples that yields its :data:`Finish`; the flag is true if the run is compared with another."""

_COLLECTORS: list[Collector] = []


def collector(function: Callable[[Model, Samples, bool], Iterator[Finish]]) -> Collector:
    """Register a generator function as a collector: it yields once, and the run takes place meanwhile."""
    context = contextmanager(function)
    _COLLECTORS.append(context)
    return context


@contextmanager
def collecting(model: Model, samples: Samples, is_compared: bool) -> Iterator[Sequence[Finish]]:
    """Enter every registered collector for the time of a run, and yield what adds their results to it."""
    with ExitStack() as stack:
        yield [stack.enter_context(collect(model, samples, is_compared)) for collect in _COLLECTORS]
