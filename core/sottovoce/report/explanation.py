"""The explanation of one sample: what two models make of it, and which layers account for the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sottovoce.report.comparison import Output
from sottovoce.report.fields import Count, Measured, Number, Record
from sottovoce.text.plain_text import one_line

_LONGEST = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class RestoredUnit(Record):
    """Layers that were put back into the compressed model, alone."""

    name: str
    layers: Count = 1
    """Number of modules that are put back together."""
    bits: Measured = None
    """Bits of a stored weight in the compressed model."""
    divergence: Measured = None
    """KL(baseline || model) in nats per token with these layers of the baseline; ``None`` where it does not run so."""
    text: str | None = None
    """Text that the model then gives; ``None`` where it was not asked."""
    is_back: bool = False
    """True if the output is that of the baseline again."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what was not asked."""
        return {key: value for key, value in super().to_dict().items() if value is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation(Record):
    """One sample, explained."""

    key: str
    model: str
    baseline: str
    reference: str | None = None
    """Text of the manifest."""
    outputs: Mapping[str, Output] = field(default_factory=dict)
    """Outputs of ``baseline`` and ``model``, aligned with the reference; without one with the baseline."""
    words: tuple[str, ...] = ()
    """Words whose times are compared."""
    is_same: bool = False
    """True if both outputs are the same."""
    divergence: Number = 0.0
    """KL(baseline || model) on the sample, in nats per token."""
    positions: Count = 0
    """Tokens that it is the mean of."""
    units: tuple[RestoredUnit, ...] = ()
    """Layers, by how little divergence is left when they alone are those of the baseline."""
    together: tuple[str, ...] | None = None
    """Layers that bring the baseline's output back: one that does so alone, else some that do together, taken in this
    order; ``None`` if none do."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return what identifies the explanation, on one line."""
        outcome = "same output" if self.is_same else f"divergence {self.divergence:.3g} nats per token"
        return one_line(f"<Explanation of {self.key}, {self.model} against {self.baseline}: {outcome}>", _LONGEST)
