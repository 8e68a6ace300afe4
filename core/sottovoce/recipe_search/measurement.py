"""Divergence of a model with single layers replaced, on few samples or on more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.reference import DivergenceSums, Reference
from sottovoce.errors import SamplesError
from sottovoce.recipe_search.replay import Replay
from sottovoce.recipe_search.spread import spread

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.samples import Sample

FIRST, FURTHER = 2, 7
"""Samples that every choice is measured on, and more for those that lose most."""


@dataclass(frozen=True)
class _Probe:
    """One sample, the float model's outputs for it, and those of the blocks."""

    reference: Reference
    replay: Replay
    positions: dict[str, int]

    @classmethod
    def of(cls, model: Model, sample: Sample, blocks: Sequence[str]) -> _Probe | None:
        """Run a sample; ``None`` if the model has no output for it."""
        try:
            reference = Reference(model, [sample])
        except SamplesError:
            return None
        replay = Replay(model.module, blocks)
        with replay.recorded():
            positions = reference.sums(model).positions
        return cls(reference, replay, positions)

    def sums(self, model: Model, layer: str) -> DivergenceSums:
        with self.replay.replaced(self.replay.before(layer)):
            return self.reference.sums(model)


class Measurement:
    """Few samples that every choice is measured on, and more for those that lose most."""

    def __init__(self, model: Model, samples: Sequence[Sample], blocks: Sequence[str]) -> None:
        """Run the model on the samples.

        Raises:
            SamplesError: It has no output on any of them.
        """
        self._model = model
        first = spread(samples, FIRST)
        keys = {sample.key for sample in first}
        rest = [sample for sample in samples if sample.key not in keys]
        second = spread(rest, FURTHER) if rest else ()
        probes = [[_Probe.of(model, sample, blocks) for sample in part] for part in (first, second)]
        self._first, self._further = ([probe for probe in part if probe is not None] for part in probes)
        if not self._first:
            self._first, self._further = self._further, []
        if not self._first:
            raise SamplesError(f"{model.source.name}: has no output on any of the samples; give others")

    def first(self, layers: Mapping[str, nn.Module]) -> dict[str, float]:
        """Return the divergence on few samples of the model with some layers replaced; the model is as it was then."""
        return self._sums(layers, self._first).means

    def thorough(self, layers: Mapping[str, nn.Module], first: Mapping[str, float]) -> dict[str, float]:
        """Return the same on more samples, with ``first`` for the few."""
        sums = self._sums(layers, self._further)
        for probe in self._first:
            positions = probe.positions
            sums += DivergenceSums({kind: first[kind] * count for kind, count in positions.items()}, positions)
        return sums.means

    def _sums(self, layers: Mapping[str, nn.Module], probes: Sequence[_Probe]) -> DivergenceSums:
        module, layer = self._model.module, next(iter(layers))
        sums = DivergenceSums()
        originals = {name: module.get_submodule(name) for name in layers}
        try:
            for name, replacement in layers.items():
                _put(module, name, replacement)
            for probe in probes:
                sums += probe.sums(self._model, layer)
        finally:
            for name, original in originals.items():
                _put(module, name, original)
        return sums


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
