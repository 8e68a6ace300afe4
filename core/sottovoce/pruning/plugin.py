"""Plugin that applies the steps that prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.pruning.step import PruneHeads, PruneLayers, PruneWidth
from sottovoce.pruning.weights_step import PruneWeights
from sottovoce.recipe.step import Step

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
    """Return the runner of a step that prunes, or the report of one; ``None`` for any other step."""
    # The algorithms need torch, which describing them does not.
    if isinstance(step, PruneWidth):
        from sottovoce.pruning.width import PruneWidthRunner

        return PruneWidthRunner(model, architecture, step)
    if isinstance(step, PruneLayers):
        from sottovoce.pruning.layers import prune_layers_

        return prune_layers_(model, architecture, step, calibration)
    if isinstance(step, PruneHeads):
        from sottovoce.pruning.heads import PruneHeadsRunner

        return PruneHeadsRunner(model, architecture, step)
    if isinstance(step, PruneWeights):
        from sottovoce.pruning.weights import PruneWeightsRunner

        return PruneWeightsRunner(model, architecture, step)
    return None
