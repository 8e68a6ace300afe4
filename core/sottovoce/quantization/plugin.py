"""Quantization as a plugin of the host: the steps ``quantize``, ``smooth`` and ``cast``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.quantization.cast_step import Cast
from sottovoce.quantization.step import Quantize, Smooth
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
    """Return what applies a step of this folder block by block, or the report of one; ``None`` for any other step."""
    # The algorithms need torch, which describing them does not.
    if isinstance(step, Cast):
        from sottovoce.quantization.cast import cast_

        return cast_(model, step)
    if isinstance(step, Quantize):
        from sottovoce.quantization.plan import prepare_quantize

        return prepare_quantize(model, architecture, step, calibration)
    if isinstance(step, Smooth):
        from sottovoce.quantization.smooth import prepare_smooth

        return prepare_smooth(model, architecture, step)
    return None
