"""Quantization as a plugin of the host: the steps ``quantize`` and ``smooth``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.quantization.step import Quantize, Smooth
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
    """Return what applies a step of this folder, block by block."""
    if not isinstance(step, Quantize | Smooth):
        return None
    # The algorithms need torch, which describing them does not.
    if isinstance(step, Quantize):
        from sottovoce.quantization.plan import prepare_quantize

        return prepare_quantize(model, architecture, step, calibration)
    from sottovoce.quantization.smooth import prepare_smooth

    return prepare_smooth(model, architecture, step)
