"""The step ``zero_weights``: set the smallest weights of every target layer to zero."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

import sottovoce
from sottovoce import Architecture, Coverage, Model, Step, StepReport, Target, Text


class ZeroWeights(Step):
    """Set the smallest weights of every target layer to zero."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of a layer's weights that become zero."""

    def summary(self, report: StepReport) -> Text:
        """Return how many weights are zero now."""
        return Text(
            en=f"Set {self.share:.0%} of the weights of {len(report.targets)} layers to zero.",
            zh=f"将 {len(report.targets)} 个层中 {self.share:.0%} 的权重置零。",
        )

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the tag of sparse models."""
        return ("sparse",)


@sottovoce.hookimpl
def sottovoce_compress(step: Step, model: Model, architecture: Architecture) -> StepReport | None:
    """Apply the step."""
    if not isinstance(step, ZeroWeights):
        return None
    import torch

    from sottovoce.calibration.targets import select_layers

    selection = select_layers(model.module, architecture)
    with torch.no_grad():
        for layer in selection.layers.values():
            magnitude = layer.weight.abs().flatten()
            count = int(step.share * len(magnitude))
            layer.weight.view(-1)[magnitude.topk(count, largest=False).indices] = 0
    sizes = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
    targets = tuple(Target(name=name, parameters=size) for name, size in selection.sizes.items())
    coverage = Coverage.of(architecture.part_of, sizes, targets)
    return StepReport(step=step.to_dict(), targets=targets, kept=selection.kept, coverage=coverage)
