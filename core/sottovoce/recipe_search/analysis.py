"""Analysis of a model: the divergence of every choice for every unit, measured once and kept for further budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from sottovoce.calibration.blocks import blocks_of
from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.quantization.step import Quantize
from sottovoce.recipe_search.choices import anchors
from sottovoce.recipe_search.measurement import Measurement
from sottovoce.recipe_search.rounding import RoundUnits
from sottovoce.recipe_search.sensitivity import Divergence, Sensitivity
from sottovoce.recipe_search.spread import spread
from sottovoce.samples import Samples
from sottovoce.system.progress import Progress, silent

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.recipe_search.units import Layer, Unit

ROUNDED = 12
"""Samples on whose inputs the layers are rounded."""
_THOROUGH = 1 / 3
"""Share of the measurements that are repeated on more samples: those that lose most."""

Keep = Callable[[Sensitivity], None]
"""Function that is called with all that is measured so far, after every unit."""


class Analysis:
    """The measurements that an earlier run has not made."""

    def __init__(
        self,
        model: Model,
        units: Sequence[Unit],
        layers: Mapping[str, Layer],
        samples: Samples,
        step: Quantize,
        progress: Progress = silent,
    ) -> None:
        """Prepare the work; nothing runs yet.

        Args:
            model: The float model, which is left as it is.
            units: Units to measure.
            layers: Sizes of their layers.
            samples: Calibration samples.
            step: Settings of the recipe's step, which rounds the layers.
            progress: Called after every measurement.
        """
        self._model, self._units, self._layers = model, units, layers
        self._samples, self._step, self._progress = samples, step, progress

    def run(self, known: Sensitivity, keep: Keep) -> None:
        """Add what is not known yet to ``known``.

        Raises:
            SamplesError: The model has no output on any of the samples.
        """
        if known.is_complete:
            return
        rounded = self._round(known)
        blocks = blocks_of(self._model, list(self._layers))
        measurement = Measurement(self._model, self._samples, blocks)
        pairs = [(unit, choice) for unit in self._units for choice in anchors(unit.choices(self._layers))]
        for number, (unit, choice) in enumerate(pairs):
            entries = known.measured.setdefault(unit.name, {})
            if choice.name not in entries:
                entries[choice.name] = Divergence(measurement.first(rounded[unit.name, choice.name]))
                keep(known)
            self._progress("sensitivity", number + 1, len(pairs))
        self._refine(known, keep, rounded, measurement)
        known.is_complete = True
        keep(known)

    def _refine(
        self,
        known: Sensitivity,
        keep: Keep,
        rounded: Mapping[tuple[str, str], Mapping[str, nn.Module]],
        measurement: Measurement,
    ) -> None:
        """Repeat the measurements of those that lose most on more samples: they decide the mix."""
        entries = sorted(known.entries(), key=lambda item: -item[2].total)
        again = entries[: math.ceil(_THOROUGH * len(entries))]
        for number, (unit, choice, entry) in enumerate(again):
            if not entry.is_thorough:
                nats = measurement.thorough(rounded[unit, choice], entry.nats)
                known.measured[unit][choice] = Divergence(nats, is_thorough=True)
                keep(known)
            self._progress("sensitivity of the most sensitive", number + 1, len(again))

    def _round(self, known: Sensitivity) -> dict[tuple[str, str], Mapping[str, nn.Module]]:
        """Return the quantized layers by unit and choice, and note how much the others err."""
        choices = {unit.name: unit.choices(self._layers) for unit in self._units}
        observer = RoundUnits(self._model, self._units, self._layers, choices, self._step)
        few = Samples(spread(self._samples, ROUNDED))
        SequentialRunner(self._model, [observer], Calibration(samples=few, progress=self._progress)).run()
        known.errors = observer.errors
        return observer.rounded
