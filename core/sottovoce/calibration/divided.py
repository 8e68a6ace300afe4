"""Samples that several processes share: which block is next for all of them, and the tokens of all in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sottovoce.system import distributed

if TYPE_CHECKING:
    from sottovoce.calibration.sample_threads import SampleThread


@dataclass(frozen=True)
class NextBlock:
    """The block that is processed next."""

    name: str
    keys: tuple[str, ...]
    """Keys of the samples that wait at it in all processes, in the order of the samples."""


def next_block(threads: Sequence[SampleThread], order: Mapping[str, int], is_divided: bool) -> NextBlock | None:
    """Return the first block that a sample waits at; ``None`` when all have passed.

    Args:
        threads: All threads of this process.
        order: Places of the blocks.
        is_divided: If true, the samples are divided among the processes, and all of them get the same answer.
    """
    waiting = [
        (order[thread.at], number, thread.sample.key) for number, thread in enumerate(threads) if thread.at is not None
    ]
    shares = distributed.gather(waiting) if is_divided else [waiting]
    everywhere = [
        (number * len(shares) + process, block, key)
        for process, part in enumerate(shares)
        for block, number, key in part
    ]
    if not everywhere:
        return None
    first = min(block for _, block, _ in everywhere)
    names = list(order)
    return NextBlock(names[first], tuple(key for _, block, key in sorted(everywhere) if block == first))


@dataclass(frozen=True)
class SampleTokens:
    """Inputs of the experts of a layer for one sample."""

    place: int
    """Place of the sample among all that reach the block."""
    tensors: tuple[Tensor, ...]
    """Tensors whose first dimension is the tokens."""
    kinds: Sequence[str]
    """Kinds of the tokens."""


def exchange_tokens(samples: Sequence[SampleTokens], count: int) -> list[SampleTokens]:
    """Return the tokens of the samples of all processes, in the order of the samples.

    Args:
        samples: Those of this process.
        count: Number of tensors of a sample.
    """
    facts = distributed.gather([(sample.place, tuple(sample.kinds)) for sample in samples])
    everywhere = [fact for of_process in facts for fact in of_process]
    lengths = [len(kinds) for _, kinds in everywhere]
    columns: list[Sequence[Tensor]] = []
    for number in range(count):
        here = torch.cat([sample.tensors[number] for sample in samples]) if samples else None
        parts = distributed.gather_tensors(here)
        columns.append(torch.split(torch.cat(parts), lengths) if parts else ())
    tokens = [
        SampleTokens(place, tensors, kinds)
        for (place, kinds), tensors in zip(everywhere, zip(*columns, strict=True), strict=True)
    ]
    return sorted(tokens, key=lambda sample: sample.place)
