"""Plugin that applies the steps that train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.recipe.step import Step
from sottovoce.training.blocks_step import DistillBlocks
from sottovoce.training.step import TrainingStep

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.report import StepReport


@hookimpl
def sottovoce_compress(
    step: Step, model: Model, architecture: Architecture, calibration: Calibration
) -> BlockStep | StepReport | None:
    """Return the report of a step that trains, or the runner of one; ``None`` for any other step."""
    # The algorithms need torch, which describing them does not.
    if isinstance(step, DistillBlocks):
        from sottovoce.training.blocks import DistillBlocksRunner

        return DistillBlocksRunner(model, architecture, step)
    if not isinstance(step, TrainingStep):
        return None
    from sottovoce.training.train import train_

    return train_(model, architecture, step, calibration)
