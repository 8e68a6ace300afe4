"""Plugin that applies the steps that train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.recipe.step import Step
from sottovoce.training.step import TrainingStep

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model
    from sottovoce.report import StepReport


@hookimpl
def sottovoce_compress(
    step: Step, model: Model, architecture: Architecture, calibration: Calibration
) -> StepReport | None:
    """Return the report of a step that trains; ``None`` for any other step."""
    if not isinstance(step, TrainingStep):
        return None
    # It needs torch, which describing it does not.
    from sottovoce.training.train import train_

    return train_(model, architecture, step, calibration)
