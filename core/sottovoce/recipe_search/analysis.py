"""Analysis of a model: the divergence of every choice for every unit, measured once and kept for further budgets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sottovoce.calibration.blocks import blocks_of
from sottovoce.calibration.calibration import Calibration
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.quantization.step import Quantize
from sottovoce.recipe_search.choices import Choice
from sottovoce.recipe_search.measurement import Effort, Measurement
from sottovoce.recipe_search.rounding import RoundUnits
from sottovoce.recipe_search.sensitivity import Divergence, Sensitivity, pairs_of
from sottovoce.recipe_search.spread import spread
from sottovoce.samples import Samples
from sottovoce.system.progress import Progress, silent

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.recipe_search.units import Layer, Unit

ROUNDED = 12
"""Samples on whose inputs the layers are rounded."""

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
        self._rounded: dict[tuple[str, str], Mapping[str, nn.Module]] = {}

    def run(self, known: Sensitivity, keep: Keep) -> None:
        """Add what is not known yet to ``known``.

        Raises:
            SamplesError: The model has no output on any of the samples.
        """
        pairs = pairs_of(self._units, self._layers)
        left = [pair for pair in pairs if pair[1] not in known.measured.get(pair[0], {})]
        if left:
            self._round(left, known)
            keep(known)
        for number, (unit, choice) in enumerate(left):
            nats = self._measurement.first(self._rounded[unit, choice])
            known.measured.setdefault(unit, {})[choice] = Divergence(nats)
            keep(known)
            self._progress("sensitivity", len(pairs) - len(left) + number + 1, len(pairs))
        self._refine(known.again(self._units, self._layers), known, keep)

    def _refine(self, again: Sequence[tuple[str, str]], known: Sensitivity, keep: Keep) -> None:
        """Repeat the measurements of those that lose most on more samples: they decide the mix."""
        left = [(unit, choice) for unit, choice in again if choice not in known.thorough.get(unit, {})]
        if missing := [pair for pair in left if pair not in self._rounded]:
            self._round(missing, known)
        for number, (unit, choice) in enumerate(left):
            nats = self._measurement.thorough(self._rounded[unit, choice], known.measured[unit][choice].nats)
            known.thorough.setdefault(unit, {})[choice] = Divergence(nats, is_thorough=True)
            keep(known)
            self._progress("sensitivity of the most sensitive", len(again) - len(left) + number + 1, len(again))

    @cached_property
    def _measurement(self) -> Measurement:
        effort = Effort.of(choice for unit in self._units for choice in unit.allowed)
        return Measurement(self._model, self._samples, blocks_of(self._model, list(self._layers)), effort)

    def _round(self, pairs: Sequence[tuple[str, str]], known: Sensitivity) -> None:
        """Round what is to be measured, and note how much the other choices err where that is not known yet."""
        choices_of: dict[str, tuple[Choice, ...]] = {}
        for unit in self._units:
            names = [choice for name, choice in pairs if name == unit.name]
            choices = unit.choices(self._layers)
            if names:
                errors = known.errors.get(unit.name, {})
                choices_of[unit.name] = tuple(
                    choice for choice in choices if choice.name in names or choice.name not in errors
                )
        units = [unit for unit in self._units if unit.name in choices_of]
        layers = {name: self._layers[name] for unit in units for name in unit.layers}
        observer = RoundUnits(self._model, units, layers, choices_of, self._step)
        few = Samples(spread(self._samples, ROUNDED))
        SequentialRunner(self._model, [observer], Calibration(samples=few, progress=self._progress)).run()
        for name, errors in observer.errors.items():
            known.errors[name] = errors | known.errors.get(name, {})
        self._rounded |= observer.rounded
