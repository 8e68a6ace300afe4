"""Calibration tokens of a layer's experts: those to choose experts by, and those to measure the change on."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.blocks import Block
from sottovoce.calibration.held_out import SplitThreads, held_out_keys
from sottovoce.calibration.routing import Routed, routed

if TYPE_CHECKING:
    from sottovoce.calibration.sample_threads import SampleThread
    from sottovoce.experts.layers import ExpertLayer
    from sottovoce.model import Model
    from sottovoce.samples import Sample


@dataclass(frozen=True)
class LayerTokens:
    """Tokens that reach the experts of a layer; ``None`` in place of no tokens."""

    calibration: Routed | None = None
    """Tokens to choose experts by."""
    evaluation: Routed | None = None
    """Tokens to measure the change of the output on."""
    held_out: bool = False
    """If true, the two are of different samples; with a single sample both are of that sample."""


class TokenCollector:
    """Collector of the tokens of each layer; the samples held out are the same for all layers of a part."""

    def __init__(self, model: Model, share: float) -> None:
        """Prepare for the layers of ``model``, holding out ``share`` of the samples."""
        self._model, self._share = model, share
        self._held_out: dict[str, frozenset[str]] = {}
        self._kinds: dict[tuple[str, str], Sequence[str]] = {}
        self.seconds = 0.0
        """Time spent in running blocks so far."""

    def collect(self, block: Block, layer: ExpertLayer) -> LayerTokens:
        """Run the block on its samples up to the experts of ``layer``, and return the tokens that reach them."""
        part = layer.layout.part
        if part not in self._held_out:
            self._held_out[part] = held_out_keys(block.keys, self._share)
        if not block.is_reached:
            return LayerTokens()
        split = SplitThreads.by_keys(block, self._held_out[part])
        calibration = self._run(block, layer, split.fitted)
        if split.is_held_out:
            return LayerTokens(calibration, self._run(block, layer, split.held_out), held_out=True)
        return LayerTokens(calibration, calibration if self._share else None)

    def _run(self, block: Block, layer: ExpertLayer, sample_threads: Sequence[SampleThread]) -> Routed | None:
        begin = time.perf_counter()
        kinds = None if self._model.architecture.runner.modalities is None else functools.partial(self._kinds_in, layer)
        tokens = routed(block, layer.name, kinds, sample_threads)
        self.seconds += time.perf_counter() - begin
        return tokens if tokens is not None and len(tokens) else None

    def _kinds_in(self, layer: ExpertLayer, sample: Sample) -> Sequence[str]:
        """Return the kinds of a sample's tokens, which are the same in all layers of a part."""
        key = layer.layout.part, sample.key
        modalities = self._model.architecture.runner.modalities
        if key not in self._kinds and modalities is not None:
            self._kinds[key] = modalities(self._model, sample, layer.name)
        return self._kinds[key]
