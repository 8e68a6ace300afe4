"""Confidence intervals of a metric, and tests of two models on the same samples.

Samples are drawn, not characters: errors of one utterance come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sottovoce.report import Metric

    Shares = NDArray[np.float64]
    """Numerators and denominators of samples, ``[samples, 2]``."""

DRAWS = 2000
"""Number of times that the samples are drawn again."""
LEVEL = 0.95
"""Share of the draws within an interval."""
EXACT = 12
"""Samples that differ, up to which every exchange of the two models is counted rather than drawn."""
EXCHANGES = 10_000
"""Number of exchanges that are drawn for more samples."""
_NUMBERS = 2_000_000
"""Numbers that are held at once."""


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two models on the same samples."""

    difference: float
    """Value of the model minus that of the other."""
    low: float
    """Lower bound of its interval."""
    high: float
    """Upper bound."""
    p: float
    """Probability of a difference at least as large if both models were alike, two-sided."""
    samples: int
    """Samples that count for both."""
    changed: int
    """Samples on which the two differ."""


def interval(metric: Metric) -> tuple[float, float] | None:
    """Return the bounds of a metric within which 95 % of its values lie when the samples are drawn again.

    The percentile bootstrap over utterances (Bisani and Ney, 2004, ICASSP). ``None`` for fewer than two samples, or for
    a metric without ``by_sample``.
    """
    shares = _shares([share for share in metric.by_sample if share is not None])
    if len(shares) < 2 or shares[:, 1].sum() <= 0:
        return None
    return _percentiles(_ratios(_drawn(shares)))


def paired_difference(model: Metric, other: Metric) -> PairedDifference | None:
    """Compare one metric of two models, on the samples that count for both.

    The interval is the bootstrap's, with the same samples drawn for both. The test is the matched-pair randomization
    test (Noreen, 1989): under the hypothesis that the models are alike their results on any sample may be exchanged,
    and p is the share of all exchanges that differ by as much. It is exact where up to 12 samples differ.

    Returns:
        The difference; ``None`` where one of the metrics has no ``by_sample``, or fewer than two samples count.
    """
    import numpy as np

    if len(model.by_sample) != len(other.by_sample):
        return None
    pairs = [pair for pair in zip(model.by_sample, other.by_sample, strict=True) if None not in pair]
    shares = np.concatenate([_shares([first for first, _ in pairs]), _shares([second for _, second in pairs])], axis=1)
    if len(shares) < 2 or min(shares[:, 1].sum(), shares[:, 3].sum()) <= 0:
        return None
    totals = _drawn(shares)
    low, high = _percentiles(_ratios(totals[:, :2]) - _ratios(totals[:, 2:]))
    differ = shares[(shares[:, :2] != shares[:, 2:]).any(axis=1)]
    sums = shares.sum(axis=0)
    return PairedDifference(
        difference=float(sums[0] / sums[1] - sums[2] / sums[3]),
        low=low,
        high=high,
        p=_exchanged(sums, differ),
        samples=len(shares),
        changed=len(differ),
    )


def _shares(shares: Sequence[tuple[float, float] | None]) -> Shares:
    import numpy as np

    return np.asarray(shares, dtype=np.float64).reshape(-1, 2)


def _drawn(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the column sums ``[draws, columns]`` of as many samples as there are, drawn with replacement."""
    import numpy as np

    random, count = np.random.default_rng(0), len(shares)
    rows = max(1, _NUMBERS // count)
    parts = [min(rows, DRAWS - start) for start in range(0, DRAWS, rows)]
    return np.concatenate([random.multinomial(count, np.full(count, 1 / count), size=size) @ shares for size in parts])


def _ratios(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numerators over denominators; a draw without anything to count has no ratio."""
    import numpy as np

    ratios: NDArray[np.float64] = totals[:, 0] / np.where(totals[:, 1] > 0, totals[:, 1], np.nan)
    return ratios


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np

    outside = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(values, [outside, 100 - outside])
    return float(low), float(high)


def _exchanged(sums: NDArray[np.float64], differ: NDArray[np.float64]) -> float:
    """Return the share of exchanges of the two models that make at least the difference that there is.

    Args:
        sums: Numerator and denominator of both models over all samples, ``[4]``.
        differ: The same of every sample on which they differ, ``[samples, 4]``.
    """
    import numpy as np

    if not (count := len(differ)):
        return 1.0
    change = differ[:, 2:] - differ[:, :2]
    threshold = abs(sums[0] / sums[1] - sums[2] / sums[3]) * (1 - 1e-9)
    is_exact = count <= EXACT
    total = 2**count if is_exact else EXCHANGES
    random, rows, reached = np.random.default_rng(0), max(1, _NUMBERS // count), 0
    for start in range(0, total, rows):
        numbers = np.arange(start, min(start + rows, total))
        if is_exact:
            exchanged = (numbers[:, None] >> np.arange(count)) & 1
        else:
            exchanged = random.integers(0, 2, size=(len(numbers), count))
        moved = exchanged @ change
        differences = _ratios(sums[:2] + moved) - _ratios(sums[2:] - moved)
        reached += int((np.abs(differences) >= threshold).sum())
    # What there is counts as one of the draws, so that p is never 0.
    return reached / total if is_exact else (reached + 1) / (total + 1)
