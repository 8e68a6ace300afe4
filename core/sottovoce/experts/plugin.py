"""Plugin that applies the steps ``prune_experts`` and ``skip_experts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.experts.step import PruneExperts, SkipExperts
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.recipe.step import Step

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model


@hookimpl
def sottovoce_compress(
    step: Step, model: Model, architecture: Architecture, calibration: Calibration
) -> BlockStep | None:
    """Return the runner of a pruning or skipping step; ``None`` for any other step."""
    if not isinstance(step, PruneExperts | SkipExperts):
        return None
    # The algorithms need torch, which describing them does not.
    if isinstance(step, SkipExperts):
        from sottovoce.experts.skip import SkipExpertsRunner

        return SkipExpertsRunner(model, architecture, step)
    from sottovoce.experts.prune import PruneExpertsRunner

    return PruneExpertsRunner(model, architecture, step, calibration)
