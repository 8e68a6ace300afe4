"""Sensitivity of a model: what it loses by every choice for every unit alone, as the divergence of its outputs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.reference import ALL
from sottovoce.recipe_search.choices import FLOAT, Choice, anchors, measured_like

if TYPE_CHECKING:
    from sottovoce.recipe_search.units import Layer, Unit

_THOROUGH = 1 / 3
"""Share of the measurements that are repeated on more samples: those that lose most."""


def pairs_of(units: Sequence[Unit], layers: Mapping[str, Layer]) -> list[tuple[str, str]]:
    """Return the units and choices that are measured, by name."""
    return [(unit.name, choice.name) for unit in units for choice in anchors(unit.choices(layers))]


@dataclass(frozen=True)
class Divergence:
    """Divergence of the model with one change alone, in nats per token."""

    nats: Mapping[str, float]
    """Mean over the tokens: of all as ``all``, and by kind of sample where there are several."""
    is_thorough: bool = False
    """If true, it is of more than the few samples that every choice is measured on."""
    is_measured: bool = True
    """If false, it is a measurement of another width, scaled by the errors of the layers' outputs."""

    @property
    def total(self) -> float:
        """Mean over all tokens."""
        return self.nats[ALL]

    def to_dict(self) -> dict[str, Any]:
        """Return the form of JSON."""
        return {"nats": dict(self.nats), "thorough": self.is_thorough, "measured": self.is_measured}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Divergence:
        """Read what :meth:`to_dict` wrote."""
        return cls(dict(form["nats"]), bool(form["thorough"]), bool(form["measured"]))


@dataclass
class Sensitivity:
    """Measurements by unit and choice, as far as they are complete."""

    measured: dict[str, dict[str, Divergence]] = field(default_factory=dict)
    """Divergences on the few samples that every choice is measured on."""
    thorough: dict[str, dict[str, Divergence]] = field(default_factory=dict)
    """Divergences on more samples."""
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    """Squared errors of the layers' outputs when rounded to nearest, as shares of their power."""
    trials: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Outcomes of recipes that were tried, in the form of JSON, by the digest of recipe and samples."""

    def again(self, units: Sequence[Unit], layers: Mapping[str, Layer]) -> list[tuple[str, str]]:
        """Return the units and choices of a search that are measured on more samples: those that lose most on few.

        They follow from the measurements alone, so that a search finds the same whatever others are kept beside.
        """
        pairs = pairs_of(units, layers)
        ranked = sorted(pairs, key=lambda pair: -self.measured[pair[0]][pair[1]].total)
        return ranked[: math.ceil(_THOROUGH * len(ranked))]

    def _divergence(
        self, unit: Unit, choice: Choice, layers: Mapping[str, Layer], again: Collection[tuple[str, str]]
    ) -> Divergence:
        """Return the divergence of a choice, measured or scaled from the one that stands for it."""
        if choice is FLOAT:
            return Divergence({ALL: 0.0}, is_thorough=True)
        anchor = measured_like(choice, unit.choices(layers))
        known = self.thorough if (unit.name, anchor.name) in again else self.measured
        entry = known[unit.name][anchor.name]
        if anchor is choice:
            return entry
        errors = self.errors.get(unit.name, {})
        base = errors.get(anchor.name, 0.0)
        ratio = errors.get(choice.name, 0.0) / base if base > 0 else 0.0
        return Divergence({kind: nats * ratio for kind, nats in entry.nats.items()}, entry.is_thorough, False)

    def table(self, units: Sequence[Unit], layers: Mapping[str, Layer]) -> dict[str, dict[str, Divergence]]:
        """Return the divergences of all choices by the names of unit and choice."""
        again = set(self.again(units, layers))
        return {
            unit.name: {choice.name: self._divergence(unit, choice, layers, again) for choice in unit.choices(layers)}
            for unit in units
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the form of JSON."""
        measured, thorough = (
            {unit: {name: entry.to_dict() for name, entry in entries.items()} for unit, entries in table.items()}
            for table in (self.measured, self.thorough)
        )
        return {"measured": measured, "thorough": thorough, "errors": self.errors, "trials": self.trials}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Sensitivity:
        """Read what :meth:`to_dict` wrote."""
        measured, thorough = (
            {
                unit: {name: Divergence.from_dict(entry) for name, entry in entries.items()}
                for unit, entries in form[table].items()
            }
            for table in ("measured", "thorough")
        )
        errors = {unit: dict(errors) for unit, errors in form["errors"].items()}
        return cls(measured, thorough, errors, {key: dict(outcome) for key, outcome in form["trials"].items()})
