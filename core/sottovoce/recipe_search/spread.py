"""Few samples that stand for all: evenly spread over every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sottovoce.calibration.held_out import evenly, held_out_keys
from sottovoce.samples import Samples

if TYPE_CHECKING:
    from sottovoce.samples import Sample

_HELD_OUT = 0.2
"""Share that such a step holds out, unless a recipe says otherwise."""


def spread(samples: Sequence[Sample], count: int) -> tuple[Sample, ...]:
    """Choose about ``count`` samples in their order, evenly spread over each modality, and one of each at least."""
    kinds: dict[str, list[Sample]] = {}
    for sample in samples:
        kinds.setdefault(sample.modality, []).append(sample)
    chosen: set[str] = set()
    for members in kinds.values():
        share = max(1, round(count * len(members) / len(samples)))
        chosen |= {sample.key for sample in evenly(members, share)}
    return tuple(sample for sample in samples if sample.key in chosen)


def held_out(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Choose the samples that a step which prunes does not fit on."""
    keys = held_out_keys([sample.key for sample in samples], _HELD_OUT)
    return tuple(sample for sample in samples if sample.key in keys) or tuple(samples)


def halves(samples: Samples) -> tuple[Samples, Samples]:
    """Part samples into two sets with as many of each modality, one after another in turns."""
    parts: tuple[list[Sample], list[Sample]] = ([], [])
    turns: dict[str, int] = {}
    for sample in samples:
        turn = turns.get(sample.modality, 0)
        parts[turn % 2].append(sample)
        turns[sample.modality] = turn + 1
    return Samples(tuple(parts[0])), Samples(tuple(parts[1]))
