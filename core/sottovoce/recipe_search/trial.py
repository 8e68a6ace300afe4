"""Trial of a recipe: what it really loses, on samples that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.calibration import LEAST_SECONDS
from sottovoce.calibration.reference import DivergenceSums, Reference
from sottovoce.errors import SamplesError
from sottovoce.recipe_search.spread import halves, held_out
from sottovoce.recipe_search.storage import file_bytes
from sottovoce.samples import Samples

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.recipe.recipe import Recipe

Compressed = Callable[["Recipe", Samples], "Model"]
"""Function that compresses a copy of the model by a recipe that is calibrated on samples."""


@dataclass(frozen=True)
class Outcome:
    """Measurements of a compressed copy."""

    size_bytes: int
    """Bytes of its weights on disk."""
    divergence: dict[str, float]
    """Divergence from the float model in nats per token, by kind of sample."""


class Trial:
    """Samples in two parts: a copy that is calibrated on one is measured on the other, and the other way around."""

    def __init__(self, model: Model, samples: Samples, compressed: Compressed) -> None:
        """Run the float model on the samples.

        Raises:
            SamplesError: It has no output on any of them.
        """
        parts = halves(samples)
        self.is_held_out = all(_is_enough(part, model) for part in parts)
        self._model, self._samples, self._compressed = model, samples, compressed
        pairs = [parts, parts[::-1]] if self.is_held_out else []
        self._pairs = [(fitted, Reference(model, list(others))) for fitted, others in pairs]

    def run(self, recipe: Recipe) -> Outcome:
        """Compress copies and measure them."""
        if self.is_held_out:
            try:
                return self._run(recipe, self._pairs)
            except SamplesError:  # Half of them are too few to fit what a step leaves; all of them may do.
                self.is_held_out = False
        return self._run(recipe, [(self._samples, Reference(self._model, held_out(self._samples)))])

    def _run(self, recipe: Recipe, pairs: Sequence[tuple[Samples, Reference]]) -> Outcome:
        sums, sizes = DivergenceSums(), []
        for fitted, reference in pairs:
            model = self._compressed(recipe, fitted)
            sizes.append(file_bytes(model))
            sums = sums + reference.sums(model)
        return Outcome(max(sizes), sums.means)


def _is_enough(samples: Samples, model: Model) -> bool:
    if "audio" not in model.architecture.inputs:
        return len(samples) > 0
    return sum(sample.seconds for sample in samples) >= LEAST_SECONDS
