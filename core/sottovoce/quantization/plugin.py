"""Core's own steps: which code applies which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sottovoce.errors import SamplesError
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.recipe.step import PruneExperts, Quantize, SkipExperts, Smooth, Step

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model


@hookimpl
def sottovoce_compress(step: Step, model: Model, architecture: Architecture, calibration: Calibration) -> Any:
    """Apply the steps of :mod:`sottovoce.recipe.step`.

    Raises:
        SamplesError: The step calibrates, and there are no samples.
    """
    if not isinstance(step, Quantize | Smooth | PruneExperts | SkipExperts):
        return None
    # The algorithms need torch, which describing them does not.
    if step.needs_samples and not calibration and not next(model.module.parameters()).is_meta:
        raise SamplesError(f"the step {step.name} calibrates on real samples: give them (--data)")
    if isinstance(step, Quantize):
        from sottovoce.quantization.plan import quantize_

        return quantize_(model, architecture, step, calibration)
    if isinstance(step, Smooth):
        from sottovoce.quantization.smooth import smooth_

        return smooth_(model, architecture, step)
    if isinstance(step, SkipExperts):
        from sottovoce.experts.skip import SkipExpertsRunner

        return SkipExpertsRunner(model, architecture, step)
    from sottovoce.experts.prune import PruneExpertsRunner

    return PruneExpertsRunner(model, architecture, step, calibration)
