"""SpecAugment: bands of time and of frequency are masked in the spectrograms that a student hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_TIME_MASKS, _TIME_SHARE = 2, 0.08
_BIN_MASKS, _BIN_SHARE = 2, 0.15
"""Number of masks, and the largest share of all frames or bins that one covers: about the policy LD (Park et al.,
arXiv 1904.08779), with narrower masks of time for short utterances."""


def masked(batch: Mapping[str, Any], spectrogram: Callable[[Mapping[str, Any]], Tensor], seed: int) -> dict[str, Any]:
    """Return a copy of a batch with masked spectrograms.

    Args:
        batch: Values of a batch by name.
        spectrogram: Function that returns the view ``[batch, time, ..., bins]`` of the features in a batch.
        seed: Seed of the masks.
    """
    copy = {
        name: value.clone() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in batch.items()
    }
    features = spectrogram(copy)
    generator = torch.Generator().manual_seed(seed)
    for item in features:
        for _ in range(_TIME_MASKS):
            item[_band(len(item), _TIME_SHARE, generator)] = 0
        for _ in range(_BIN_MASKS):
            item[..., _band(item.shape[-1], _BIN_SHARE, generator)] = 0
    return copy


def _band(size: int, share: float, generator: torch.Generator) -> slice:
    width = int(torch.randint(0, int(size * share) + 1, (), generator=generator))
    first = int(torch.randint(0, size - width + 1, (), generator=generator))
    return slice(first, first + width)
