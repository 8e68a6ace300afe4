"""Divergence of a model with single layers replaced, on few samples or on more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.reference import DivergenceSums, Reference
from sottovoce.errors import SamplesError
from sottovoce.recipe_search.choices import USUAL, Choice
from sottovoce.recipe_search.probe import Probe, put_
from sottovoce.recipe_search.spread import spread

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.samples import Sample


@dataclass(frozen=True)
class Effort:
    """Numbers of samples that choices are measured on."""

    candidates: int
    """Samples among which those are chosen of which the model is least certain: there nearly all divergence arises."""
    first: int
    """Samples that every choice is measured on."""
    further: int
    """More samples, for the choices that lose most."""

    @classmethod
    def of(cls, choices: Iterable[Choice]) -> Effort:
        """Return the effort for a search among choices.

        Where weights may have 2 or 3 bits, layers differ less from one another than samples do.
        """
        is_narrow = any(choice.bits is not None and choice.bits < min(USUAL) for choice in choices)
        return cls(64, 8, 24) if is_narrow else cls(32, 2, 6)


class Measurement:
    """Few samples that every choice is measured on, and more for those that lose most."""

    def __init__(self, model: Model, samples: Sequence[Sample], blocks: Sequence[str], effort: Effort) -> None:
        """Run the model on the samples.

        Raises:
            SamplesError: It has no output on any of them.
        """
        self._model = model
        kinds: dict[str, list[Reference]] = {}
        for sample in spread(samples, effort.candidates):
            with contextlib.suppress(SamplesError):
                kinds.setdefault(sample.modality, []).append(Reference(model, [sample]))
        if not kinds:
            raise SamplesError(f"{model.source.name}: has no output on any of the samples; give others")
        for references in kinds.values():
            references.sort(key=lambda reference: -reference.uncertainty)
        first, further = (max(1, round(count / len(kinds))) for count in (effort.first, effort.further))
        self._first, self._further = (
            [Probe.of(model, reference, blocks) for references in kinds.values() for reference in references[part]]
            for part in (slice(first), slice(first, first + further))
        )

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

    def _sums(self, layers: Mapping[str, nn.Module], probes: Sequence[Probe]) -> DivergenceSums:
        module, layer = self._model.module, next(iter(layers))
        sums = DivergenceSums()
        originals = {name: module.get_submodule(name) for name in layers}
        try:
            for name, replacement in layers.items():
                put_(module, name, replacement)
            for probe in probes:
                sums += probe.sums(self._model, layer)
        finally:
            for name, original in originals.items():
                put_(module, name, original)
        return sums
