"""The step ``prune_small_weights``: magnitude pruning."""

from typing import Annotated

from pydantic import Field

import sottovoce
from sottovoce import Coverage, Step, StepReport, Target, Text
from sottovoce.architecture import matches


class PruneSmallWeights(Step):
    """Set the smallest weights of each target layer to zero."""

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of a layer's weights that become zero."""

    def summary(self, report: StepReport) -> Text:
        """Return what was pruned."""
        return Text(
            en=f"Set the smallest {self.share:.0%} of the weights of {len(report.targets)} layers to zero.",
            zh=f"将 {len(report.targets)} 个层中最小的 {self.share:.0%} 权重置零。",
        )

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the tag of the model card."""
        return ("magnitude-pruning",)


@sottovoce.hookimpl
def sottovoce_compress(step, model, architecture):
    """Apply the step; return ``None`` for the steps of others."""
    if not isinstance(step, PruneSmallWeights):
        return None
    before = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
    patterns = architecture.layers.targets
    targets = []
    for name, layer in model.module.named_modules():
        if any(matches(name, type(layer).__name__, pattern) for pattern in patterns):
            weight = layer.weight.data
            count = int(weight.numel() * step.share)
            weight.flatten()[weight.abs().flatten().argsort()[:count]] = 0
            targets.append(Target(name=name, parameters=count))
    coverage = Coverage.of(architecture.part_of, before, targets)
    return StepReport(step=step.to_dict(), targets=tuple(targets), coverage=coverage)
