"""Samples that are held out of a fit or a choice, to measure what it did on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Set

    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.sample_threads import SampleThread

Item = TypeVar("Item")


def held_out_keys(keys: Sequence[str], share: float) -> frozenset[str]:
    """Choose the samples on which the change is measured: evenly spread, at least one of two, none of a single one."""
    count = max(1, round(share * len(keys))) if share > 0 and len(keys) > 1 else 0
    return frozenset(evenly(keys, count))


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """Return ``count`` of the items, evenly spread; all of them if there are fewer."""
    count = min(count, len(items))
    return [items[(2 * number + 1) * len(items) // (2 * count)] for number in range(count)]


@dataclass(frozen=True)
class SplitThreads:
    """The sample threads of a block, parted; a single sample serves both purposes.

    Of samples that are divided among processes a process may have none in a part; all of them agree on the parts.
    """

    fitted: Sequence[SampleThread]
    held_out: Sequence[SampleThread]
    is_held_out: bool
    """If true, the two are different samples."""

    @classmethod
    def of(cls, block: Block, share: float) -> SplitThreads:
        """Part the threads; the same samples are held out at every block that all of them reach."""
        return cls.by_keys(block, held_out_keys(block.keys, share))

    @classmethod
    def by_keys(cls, block: Block, keys: Set[str]) -> SplitThreads:
        """Part the threads, holding out the samples with ``keys``."""
        count = sum(key in keys for key in block.keys)
        if count in (0, len(block.keys)):
            return cls(block.sample_threads, block.sample_threads, False)
        held = [thread for thread in block.sample_threads if thread.sample.key in keys]
        rest = [thread for thread in block.sample_threads if thread.sample.key not in keys]
        return cls(rest, held, True)
