"""Trial of a recipe: what it really loses, on samples that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.calibration import LEAST_SECONDS
from sottovoce.calibration.reference import DivergenceSums, Reference
from sottovoce.recipe_search.spread import halves
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
        is_parted = all(_is_enough(part, model) for part in parts)
        pairs = [parts, parts[::-1]] if is_parted else [(samples, samples)]
        self.is_held_out = is_parted
        self._compressed = compressed
        self._pairs = [(fitted, Reference(model, list(others))) for fitted, others in pairs]

    def run(self, recipe: Recipe) -> Outcome:
        """Compress copies and measure them."""
        sums, sizes = DivergenceSums(), []
        for fitted, reference in self._pairs:
            model = self._compressed(recipe, fitted)
            sizes.append(file_bytes(model))
            sums = sums + reference.sums(model)
        return Outcome(max(sizes), sums.means)


def _is_enough(samples: Samples, model: Model) -> bool:
    if "audio" not in model.architecture.inputs:
        return len(samples) > 0
    return sum(sample.seconds for sample in samples) >= LEAST_SECONDS
