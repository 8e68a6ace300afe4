"""Choice of the layers to remove: greedy, by the divergence from the model before that each removal would cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sottovoce.calibration.held_out import evenly, held_out_keys
from sottovoce.calibration.reference import ALL, Reference
from sottovoce.pruning.absorb import AbsorptionSums, Projection, estimated_error
from sottovoce.pruning.description import LayerRemoval
from sottovoce.pruning.layer_plan import LayerPart
from sottovoce.pruning.layer_states import record_states, without_layers
from sottovoce.pruning.parts import float_linear

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.pruning.step import PruneLayers
    from sottovoce.samples import Sample

MEASURED_SAMPLES = 16
"""Samples at most on which the divergence is measured; of more, as many evenly spread ones."""
_TRIAL_SAMPLES = 48
"""Samples at most that a removal is fitted on when it is tried."""
MEASURED_LAYERS = 5
"""Layers at most whose removal is tried before one goes; of more, those that are absorbed best."""
_ESTIMATE_ROWS = 512
"""Rows on which the error of an absorption is estimated."""


@dataclass(frozen=True)
class SampleSplit:
    """Samples for the choice and the fit, and those held out; a single sample serves both purposes."""

    fitted: Sequence[Sample]
    held_out: Sequence[Sample]

    @classmethod
    def of(cls, samples: Sequence[Sample], share: float) -> SampleSplit:
        """Part samples."""
        keys = held_out_keys([sample.key for sample in samples], share)
        held = [sample for sample in samples if sample.key in keys]
        return cls([sample for sample in samples if sample.key not in keys] or held, held)


class LayerChooser:
    """Removal of layers one by one, each by measurement, and taken back at the end."""

    def __init__(self, model: Model, step: PruneLayers, split: SampleSplit) -> None:
        """Run the model before it is changed.

        Raises:
            SamplesError: The model has no output on any of the samples.
        """
        self._model, self._step = model, step
        measured = evenly(split.fitted, MEASURED_SAMPLES)
        # A fit says nothing about the samples that it was fitted on: there are nearly as many inputs as rows.
        keys = {sample.key for sample in measured}
        others = [sample for sample in split.fitted if sample.key not in keys]
        self._samples = evenly(others or measured, _TRIAL_SAMPLES)
        self.reference = Reference(model, measured)
        self.held_out = Reference(model, evenly(split.held_out, MEASURED_SAMPLES)) if split.held_out else None
        self.removed: list[str] = []
        self.removals: list[LayerRemoval] = []

    def choose(self, parts: Sequence[LayerPart], progress: Callable[[int], None]) -> None:
        """Remove the layers of all parts one after another, and take all back; what they are is in :attr:`removed`."""
        with ExitStack() as stack:
            for part in parts:
                for number in range(part.remove):
                    progress(len(self.removed))
                    left = [name for name in part.removable if name not in self.removed]
                    self._remove_one(part, [part.named[number]] if part.named else left, stack)

    def _remove_one(self, part: LayerPart, candidates: Sequence[str], stack: ExitStack) -> None:
        if len(candidates) > MEASURED_LAYERS:
            errors = self._estimates(part, candidates)
            candidates = sorted(candidates, key=lambda name: errors.get(name, float("inf")))[:MEASURED_LAYERS]
        fits = self._fits(part, candidates)
        divergences = {name: self._try(part, name, fits) for name in candidates} if len(candidates) > 1 else {}
        best = min(candidates, key=lambda name: divergences.get(name, 0.0))
        stack.enter_context(self._removal(part, best, fits))
        self.removed.append(best)
        self.removals.append(self.measure(best))

    @contextmanager
    def _removal(self, part: LayerPart, name: str, fits: Mapping[str, Projection]) -> Iterator[None]:
        """Run the model without a layer, absorbed by the one before it."""
        with without_layers(self._model.module, [name]):
            if name not in fits:
                yield
                return
            layer = float_linear(self._model.module, self._output(part, name))
            plain = Projection.of(layer)
            fits[name].set_(layer)
            try:
                yield
            finally:
                plain.set_(layer)

    def _try(self, part: LayerPart, name: str, fits: Mapping[str, Projection]) -> float:
        with self._removal(part, name, fits):
            return self.reference.divergence(self._model).get(ALL, float("inf"))

    def measure(self, name: str) -> LayerRemoval:
        """Return the divergence of the model as it is now, once a layer is removed."""
        held_out = self.held_out.divergence(self._model).get(ALL) if self.held_out is not None else None
        return LayerRemoval(layer=name, divergence=self.reference.divergence(self._model).get(ALL), held_out=held_out)

    def _output(self, part: LayerPart, name: str) -> str:
        return f"{part.previous(name, self.removed)}.{part.depth.output}"

    def _fits(self, part: LayerPart, candidates: Sequence[str]) -> dict[str, Projection]:
        """Fit the layer before every candidate to what the candidate gives, in one pass."""
        if not self._step.absorb:
            return {}
        root = self._model.module
        layers = {name: float_linear(root, self._output(part, name)) for name in candidates}
        sums = {name: AbsorptionSums(layer) for name, layer in layers.items()}
        for rows in self._states(part, candidates):
            for name, (x, state, target) in rows.items():
                sums[name].add(x, state, target)
        return {
            name: Projection.of(layer).fitted(sums[name].regression(), self._step.damp)
            for name, layer in layers.items()
            if sums[name].rows
        }

    def _estimates(self, part: LayerPart, candidates: Sequence[str]) -> dict[str, float]:
        """Return the error that removing each candidate would leave in the hidden states, by one pass."""
        per_sample = max(1, _ESTIMATE_ROWS // len(self._samples))
        chosen: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in candidates}
        for rows in self._states(part, candidates):
            for name, (x, state, target) in rows.items():
                take = torch.linspace(0, len(x) - 1, min(per_sample, len(x))).round().long()
                chosen[name].append((x[take], target[take] - state[take], target[take]))
        return {name: self._estimate(pieces) for name, pieces in chosen.items() if pieces}

    def _estimate(self, pieces: Sequence[tuple[Tensor, Tensor, Tensor]]) -> float:
        x, change, target = (torch.cat(rows) for rows in zip(*pieces, strict=True))
        if self._step.absorb:
            return estimated_error(x, change, target, self._step.damp)
        return float(change.double().square().sum()) / (float(target.double().square().sum()) or 1.0)

    def _states(self, part: LayerPart, candidates: Sequence[str]) -> Iterator[dict[str, tuple[Tensor, Tensor, Tensor]]]:
        """Yield what the projection before each candidate reads, and what enters and leaves it, sample by sample."""
        read = {name: self._output(part, name) if self._step.absorb else name for name in candidates}
        for sample in self._samples:
            states = record_states(self._model, sample, {*candidates, *read.values()}, candidates)
            yield {
                name: (states.entered[projection], states.entered[name], states.left[name])
                for name, projection in read.items()
                if name in states.left and projection in states.entered
            }
