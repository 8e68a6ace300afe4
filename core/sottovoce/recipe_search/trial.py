"""Trial of a recipe: what it really loses, on samples that it was not calibrated on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.calibration import LEAST_SECONDS
from sottovoce.calibration.reference import DivergenceSums, Reference
from sottovoce.errors import SamplesError
from sottovoce.recipe_search.interval import interval
from sottovoce.recipe_search.spread import halves, held_out
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.samples import Samples

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.recipe.recipe import Recipe
    from sottovoce.recipe_search.sensitivity import Sensitivity

Compressed = Callable[["Recipe", Samples], "Model"]
"""Function that compresses a copy of the model by a recipe that is calibrated on samples."""


@dataclass(frozen=True)
class Outcome:
    """Measurements of a compressed copy."""

    size_bytes: int
    """Bytes of its weights on disk."""
    divergence: Mapping[str, float]
    """Divergence from the float model in nats per token, by kind of sample."""
    interval: tuple[float, float] = (0.0, 0.0)
    """Bounds of the divergence of all, from samples drawn again."""
    is_held_out: bool = True
    """If false, it was measured on samples that it was calibrated on."""
    notes: tuple[str, ...] = ()
    """Notes of the steps."""

    def to_dict(self) -> dict[str, Any]:
        """Return the form of JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Outcome:
        """Read what :meth:`to_dict` wrote."""
        low, high = form["interval"]
        return cls(
            int(form["size_bytes"]),
            dict(form["divergence"]),
            (float(low), float(high)),
            bool(form["is_held_out"]),
            tuple(form["notes"]),
        )


class Trial:
    """Samples that a copy is calibrated on, and others that it is measured on.

    Without others a copy that is calibrated on one half of the samples is measured on the other half.
    """

    def __init__(
        self, model: Model, samples: Samples, others: Samples | None, compressed: Compressed, *, swaps: bool = False
    ) -> None:
        """Name the samples; nothing runs yet.

        Args:
            model: The float model.
            samples: Samples to calibrate on.
            others: Samples to measure on.
            compressed: Function that compresses a copy.
            swaps: If true, each half is measured by what was calibrated on the other, which takes two copies.
        """
        self._model, self._samples, self._others, self._compressed = model, samples, others, compressed
        self._swaps = swaps

    def run(self, recipe: Recipe) -> Outcome:
        """Compress copies and measure them.

        Raises:
            SamplesError: The float model has no output on any of the samples.
        """
        if self._pairs:
            try:
                return self._run(recipe, self._pairs, is_held_out=True)
            except SamplesError:
                if self._others is not None:
                    raise
                # Half of them are too few to fit what a step leaves; all of them may do.
        return self._run(recipe, [(self._samples, self._seen)], is_held_out=False)

    @cached_property
    def _pairs(self) -> list[tuple[Samples, Reference]]:
        """Samples to calibrate on, with the outputs of the float model on others."""
        if self._others is not None:
            return [(self._samples, Reference(self._model, list(self._others)))]
        parts = halves(self._samples)
        if not all(_is_enough(part, self._model) for part in parts):
            return []
        turns = (parts, parts[::-1]) if self._swaps else (parts,)
        return [(fitted, Reference(self._model, list(others))) for fitted, others in turns]

    @cached_property
    def _seen(self) -> Reference:
        return Reference(self._model, held_out(self._samples))

    def _run(self, recipe: Recipe, pairs: Sequence[tuple[Samples, Reference]], is_held_out: bool) -> Outcome:
        every: list[DivergenceSums] = []
        sizes: list[int] = []
        notes: dict[str, None] = {}
        for fitted, reference in pairs:
            model = self._compressed(recipe, fitted)
            sizes.append(file_bytes(model))
            every.extend(reference.sums_by_sample(model))
            notes |= dict.fromkeys(model.report.notes) if model.report else {}
        total = sum(every, start=DivergenceSums())
        return Outcome(max(sizes), total.means, interval(every), is_held_out, tuple(notes))


@dataclass(frozen=True)
class KeptTrial:
    """A trial that keeps its outcomes: an interrupted search, and one for another budget, do not repeat them."""

    trial: Trial
    identity: str
    """Digest of the samples that are held out."""
    known: Sensitivity
    keep: Callable[[Sensitivity], None]

    def run(self, recipe: Recipe) -> Outcome:
        """Return the outcome of a recipe.

        Raises:
            SamplesError: The samples cannot be calibrated on, or the model has no output on any of them.
        """
        facts = json.dumps([recipe.to_dict(), self.identity], sort_keys=True)
        key = hashlib.sha256(facts.encode()).hexdigest()[:32]
        if key not in self.known.trials:
            self.known.trials[key] = self.trial.run(recipe).to_dict()
            self.keep(self.known)
        return Outcome.from_dict(self.known.trials[key])


def _is_enough(samples: Samples, model: Model) -> bool:
    if "audio" not in model.architecture.inputs:
        return len(samples) > 0
    return sum(sample.seconds for sample in samples) >= LEAST_SECONDS
