"""Interval of a measured number, and the test of a difference from another model."""

from __future__ import annotations

from dataclasses import dataclass

from sottovoce.report.fields import Count, Number, Record
from sottovoce.report.metric import Better

SIGNIFICANT = 0.05
"""Probability below which a difference counts as significant."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Interval(Record):
    """Bounds within which 95 % of a metric's values lie when the samples are drawn again."""

    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedTest(Record):
    """Difference from the reference model on the same samples, and how likely chance is."""

    difference: Number
    low: Number
    high: Number
    p: Number
    """Probability of a difference at least as large if both models were alike, two-sided."""
    samples: Count
    changed: Count
    """Samples on which the two differ."""

    def loss(self, better: Better | None) -> float:
        """Return the difference with the sign of a loss: above 0 where the model is worse than the reference."""
        return -self.difference if better == "higher" else self.difference

    def is_worse(self, better: Better | None) -> bool:
        """Return true if the model is significantly worse than the reference."""
        return self.p < SIGNIFICANT and self.loss(better) > 0
