"""Sensitivity of a model: what it loses by every choice for every unit alone, as the divergence of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.reference import ALL
from sottovoce.recipe_search.choices import FLOAT, Choice, measured_like

if TYPE_CHECKING:
    from sottovoce.recipe_search.units import Layer, Unit


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
    """Divergences that were measured."""
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    """Squared errors of the layers' outputs when rounded to nearest, as shares of their power."""
    again: list[tuple[str, str]] | None = None
    """Units and choices that are measured on more samples; ``None`` until all are measured on few."""
    trials: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Outcomes of recipes that were tried, in the form of JSON, by the digest of recipe and samples."""

    def divergence(self, unit: Unit, choice: Choice, layers: Mapping[str, Layer]) -> Divergence:
        """Return the divergence of a choice, measured or scaled from the one that stands for it."""
        if choice is FLOAT:
            return Divergence({ALL: 0.0}, is_thorough=True)
        anchor = measured_like(choice, unit.choices(layers))
        entry = self.measured[unit.name][anchor.name]
        if anchor is choice:
            return entry
        errors = self.errors.get(unit.name, {})
        base = errors.get(anchor.name, 0.0)
        ratio = errors.get(choice.name, 0.0) / base if base > 0 else 0.0
        return Divergence({kind: nats * ratio for kind, nats in entry.nats.items()}, entry.is_thorough, False)

    def table(self, units: Sequence[Unit], layers: Mapping[str, Layer]) -> dict[str, dict[str, Divergence]]:
        """Return the divergences of all choices by the names of unit and choice."""
        return {
            unit.name: {choice.name: self.divergence(unit, choice, layers) for choice in unit.choices(layers)}
            for unit in units
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the form of JSON."""
        measured = {
            unit: {name: entry.to_dict() for name, entry in entries.items()} for unit, entries in self.measured.items()
        }
        return {"measured": measured, "errors": self.errors, "again": self.again, "trials": self.trials}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Sensitivity:
        """Read what :meth:`to_dict` wrote."""
        measured = {
            unit: {name: Divergence.from_dict(entry) for name, entry in entries.items()}
            for unit, entries in form["measured"].items()
        }
        errors = {unit: dict(errors) for unit, errors in form["errors"].items()}
        again = None if form["again"] is None else [(str(unit), str(choice)) for unit, choice in form["again"]]
        return cls(measured, errors, again, {key: dict(outcome) for key, outcome in form["trials"].items()})
