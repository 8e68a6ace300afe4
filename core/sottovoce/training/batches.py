"""The samples of training: those held out, their order, and the batches of every process."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sottovoce.calibration.held_out import held_out_keys
from sottovoce.errors import SamplesError
from sottovoce.samples import Sample

_POOL = 20
"""Batches whose samples are sorted by length together: enough to pad little, few enough to stay random."""


@dataclass(frozen=True)
class TrainingSet:
    """Samples to train on, and those that are held out."""

    trained: Sequence[Sample]
    held_out: Sequence[Sample]

    @classmethod
    def of(cls, samples: Sequence[Sample], share: float) -> TrainingSet:
        """Part the samples; the held-out ones are evenly spread.

        Raises:
            SamplesError: There are fewer than two.
        """
        if len(samples) < 2:
            raise SamplesError("training needs two samples or more: one to learn from, one to measure on; give more")
        keys = held_out_keys([sample.key for sample in samples], share)
        return cls(
            [sample for sample in samples if sample.key not in keys],
            [sample for sample in samples if sample.key in keys],
        )


def batches_of_epoch(lengths: Sequence[float], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch, each a list of numbers of samples, in random order and of like lengths.

    The last samples of an epoch that do not fill a batch are left out; the next epoch has another order.

    Args:
        lengths: Lengths of the samples, in any unit.
        size: Samples of a batch, those of all processes together.
        seed: Seed of all orders.
        epoch: Number of the epoch.
    """
    source = random.Random(f"{seed} {epoch}")
    order = list(range(len(lengths)))
    source.shuffle(order)
    size = min(size, len(order))
    order = order[: len(order) // size * size]
    pools = [order[first : first + _POOL * size] for first in range(0, len(order), _POOL * size)]
    batches = [
        pool[first : first + size]
        for pool in (sorted(pool, key=lambda number: lengths[number]) for pool in pools)
        for first in range(0, len(pool), size)
    ]
    source.shuffle(batches)
    return batches
