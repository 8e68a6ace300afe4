"""Interval of a divergence: how much it varies from one set of samples to the next."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sottovoce.calibration.reference import ALL, DivergenceSums

_DRAWS = 1000
_OUTSIDE = 0.05
"""Share of the draws below the interval, and above it."""


def interval(every: Sequence[DivergenceSums]) -> tuple[float, float]:
    """Return bounds of the mean divergence in nats per token, by the bootstrap.

    As many samples as there are, are drawn again and again with replacement; nine tenths of their means lie within
    (Efron, 1979, Annals of Statistics 7(1), percentile method).

    Args:
        every: Sums of every sample.
    """
    pairs = [(sums.nats.get(ALL, 0.0), sums.positions.get(ALL, 0)) for sums in every]
    draw = random.Random(0)
    means: list[float] = []
    for _ in range(_DRAWS):
        drawn = draw.choices(pairs, k=len(pairs))
        positions = sum(count for _, count in drawn)
        means.append(sum(nats for nats, _ in drawn) / max(positions, 1))
    means.sort()
    outside = round(_OUTSIDE * _DRAWS)
    return means[outside], means[-1 - outside]
