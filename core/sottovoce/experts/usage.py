"""Counts of how often each expert is chosen before any is removed, by a pass over the samples that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.routing import routed
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.experts.layers import names_in_block
from sottovoce.report import StepReport

if TYPE_CHECKING:
    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model


def measure_usage(model: Model, layers: Mapping[str, int], calibration: Calibration) -> dict[str, Tensor]:
    """Count the tokens that are routed to each expert of the given layers.

    Args:
        model: The model; it is not changed.
        layers: Number of experts by the name of the module that holds them.
        calibration: The samples, and the limits of the work.

    Returns:
        By layer, the counts ``[experts]``; a layer that no sample reaches is missing.
    """
    counts = _Counts(layers)
    SequentialRunner(model, (counts,), replace(calibration, directory=None, float_backup=None)).run()
    return counts.counts


def used_experts(counts: Tensor, threshold: float) -> int:
    """Return the number of experts that are chosen for at least ``threshold`` times the layer's mean token count."""
    return int((counts >= threshold * counts.double().mean()).sum())


class _Counts(BlockStep):
    """Step that counts in the blocks and changes nothing."""

    name = "count the use of experts in"
    only_observes = True
    divides_samples = True

    def __init__(self, layers: Mapping[str, int]) -> None:
        self._experts = dict(layers)
        self.counts: dict[str, Tensor] = {}

    @property
    def layers(self) -> Sequence[str]:
        return list(self._experts)

    def on_start(self) -> None:
        """Change nothing."""

    def process_block(self, block: Block) -> dict[str, Any]:
        for name in names_in_block(self._experts, block.name):
            if block.is_reached and (tokens := routed(block, name)) is not None:
                self.counts[name] = torch.bincount(tokens.index.flatten().cpu(), minlength=self._experts[name])
        return {}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Restore nothing: nothing was changed."""

    def on_end(self) -> StepReport:
        return StepReport(step={"step": self.name})
