"""The report of a recipe's gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sottovoce.report.facts import SampleSet
from sottovoce.report.fields import Count, Measured, Number, Record
from sottovoce.text.translations import Text


@dataclass(frozen=True, kw_only=True, eq=False)
class RestoredLayer(Record):
    """A layer that a gate restored to a higher precision."""

    name: str
    bits: Count


@dataclass(frozen=True, kw_only=True, eq=False)
class GateReport(Record):
    """Limits of a recipe's gate, what was measured, and which layers were restored to higher precision."""

    limits: Mapping[str, Number]
    found: Mapping[str, Measured] = field(default_factory=dict)
    samples: SampleSet | None = None
    rounds: Count = 0
    raised: list[RestoredLayer] = field(default_factory=list)
    labels: Mapping[str, Text] = field(default_factory=dict)
    """Names of the metrics for people."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without labels where there are none."""
        return {key: value for key, value in super().to_dict().items() if key != "labels" or value}

    @staticmethod
    def metric_of(limit: str) -> str:
        """Return the name of the metric that a limit bounds: ``cer`` for ``max_cer_increase``."""
        return limit.removeprefix("max_").removeprefix("min_").removesuffix("_increase")
