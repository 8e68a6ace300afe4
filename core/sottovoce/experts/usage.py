"""How often each expert is chosen, before any is removed: one more pass over the samples that changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.routing import routed
from sottovoce.calibration.runner import SequentialRunner
from sottovoce.report import StepReport

if TYPE_CHECKING:
    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model


def measure_usage(model: Model, layers: Mapping[str, int], calibration: Calibration) -> dict[str, Tensor]:
    """Count the tokens that each expert of some layers is given.

    Args:
        model: The model; nothing of it is changed.
        layers: By the name of the module that holds a layer's experts, how many they are.
        calibration: The samples, and the limits of the work.

    Returns:
        By layer, the counts ``[experts]``; a layer that no sample reaches is not there.
    """
    counts = _Counts(layers)
    SequentialRunner(model, (counts,), replace(calibration, directory=None, float_backup=None)).run()
    return counts.counts


def used_experts(counts: Tensor, threshold: float) -> int:
    """Return how many experts are chosen for at least ``threshold`` times the layer's mean number of tokens."""
    return int((counts >= threshold * counts.double().mean()).sum())


class _Counts(BlockStep):
    """Looks at the blocks (see :class:`~sottovoce.calibration.block_step.BlockStep`) and leaves them as they are."""

    name = "count the use of experts in"
    only_observes = True

    def __init__(self, layers: Mapping[str, int]) -> None:
        self._experts = dict(layers)
        self.counts: dict[str, Tensor] = {}

    @property
    def layers(self) -> Sequence[str]:
        return list(self._experts)

    def on_start(self) -> None:
        """Nothing is changed."""

    def process_block(self, block: Block) -> dict[str, Any]:
        for name, experts in self._experts.items():
            if name != block.name and not name.startswith(f"{block.name}."):
                continue
            if block.sample_threads and (tokens := routed(block, name)) is not None:
                self.counts[name] = torch.bincount(tokens.index.flatten().cpu(), minlength=experts)
        return {}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Nothing is kept that could be restored."""

    def on_end(self) -> StepReport:
        return StepReport(step={"step": self.name})
