"""Expert skipping at run time, block by block, with its savings and error measured on the inputs of each block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.routing import EVERY, routed
from sottovoce.experts.layers import names_in_block
from sottovoce.experts.output_change import compare_outputs
from sottovoce.experts.skipping_plan import plan_skipping
from sottovoce.report import StepReport
from sottovoce.runtime.expert_skipping import RENORMALIZE, THRESHOLD, settings_of
from sottovoce.runtime.experts import Experts
from sottovoce.runtime.skipping_rule import Skipping

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.routing import Routed
    from sottovoce.experts.step import SkipExperts
    from sottovoce.model import Model
    from sottovoce.samples import Sample

_LAYERS = "layers"
Counts = dict[str, tuple[int, int]]
"""By kind of token, the number of expert runs without skipping, and of those that are skipped."""


class SkipExpertsRunner(BlockStep):
    """Runner of one skipping step, block by block."""

    divides_samples = True

    def __init__(self, model: Model, architecture: Architecture, step: SkipExperts) -> None:
        """Plan the work without changing the model.

        Args:
            model: The model, its experts as :class:`~sottovoce.runtime.experts.Experts`.
            architecture: Its family.
            step: What to skip.

        Raises:
            RecipeError: The model has no experts, or none of a part that the step names, or its configuration cannot
                tell the step's parts from others.
            PluginError: The architecture's layout does not fit the model.
        """
        self.name = step.name
        self.model, self.architecture, self.step = model, architecture, step
        self.skipping = Skipping(step.threshold, step.renormalize)
        self._layers, self._kept = plan_skipping(model, architecture, step)
        self._facts: dict[str, dict[str, Any]] = {}
        self._kinds: dict[tuple[str, str], Sequence[str]] = {}

    @property
    def layers(self) -> Sequence[str]:
        """Names of the modules that hold the experts."""
        return list(self._layers)

    def on_start(self) -> None:
        """Change nothing: all experts lie in blocks."""

    def process_block(self, block: Block) -> dict[str, Any]:
        """Turn skipping on in one block, and measure savings and error if samples reach its experts.

        Raises:
            NotFiniteError: The input of the experts is not finite.
        """
        layers = {name: self._skip(block, name) for name in names_in_block(self._layers, block.name)}
        self._facts |= layers
        return {_LAYERS: layers}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Turn skipping on where :meth:`process_block` did."""
        for name, fact in facts[_LAYERS].items():
            self._facts[name] = dict(fact)
            self._experts(name).skipping = self.skipping

    def on_end(self) -> StepReport:
        """Write the settings into the configuration, next to the number of experts, and return the report."""
        config = self.model.native.config
        for layout in self._layers.values():
            settings = settings_of(config, layout)
            setattr(settings, THRESHOLD, self.step.threshold)
            setattr(settings, RENORMALIZE, self.step.renormalize)
        return StepReport(step=self.step.to_dict(), kept=self._kept, details=self._details())

    def _skip(self, block: Block, name: str) -> dict[str, Any]:
        experts = self._experts(name)
        tokens = routed(block, name, self._kinds_of(name)) if block.is_reached else None
        # An earlier step may have turned skipping on; the error is against the layer with all experts.
        experts.skipping = None
        before = _output(experts, tokens) if tokens else None
        experts.skipping = self.skipping
        if not tokens or before is None:
            return {}
        error = compare_outputs(before, _output(experts, tokens)).error
        return {"runs": _run_counts(self.skipping.skipped(tokens.weight), tokens), "error": float(f"{error:.6g}")}

    def _experts(self, name: str) -> Experts:
        experts = self.model.module.get_submodule(name)
        assert isinstance(experts, Experts)
        return experts

    def _kinds_of(self, name: str) -> Any:
        """Return a function that names the kinds of a sample's tokens, which are the same in all layers of a part."""
        modalities, part = self.architecture.runner.modalities, self._layers[name].part

        def kinds(sample: Sample) -> Sequence[str]:
            if (part, sample.key) not in self._kinds and modalities is not None:
                self._kinds[part, sample.key] = modalities(self.model, sample, name)
            return self._kinds[part, sample.key]

        return kinds if modalities else None

    def _details(self) -> dict[str, Any]:
        measured = {name: fact for name, fact in self._facts.items() if fact}
        layers = {
            name: {"saved": _shares([fact["runs"]]), "error": fact["error"]} if fact else {}
            for name, fact in self._facts.items()
        }
        return {"saved": _shares(fact["runs"] for fact in measured.values()), _LAYERS: layers}


@torch.no_grad()
def _output(experts: Experts, tokens: Routed) -> Tensor:
    output: Tensor = experts(tokens.hidden, tokens.index, tokens.weight)
    return output


def _run_counts(skipped: Tensor, tokens: Routed) -> Counts:
    """Count the mask ``[tokens, top_k]`` in total and by kind of token."""
    masks = {kind: skipped[tokens.modality == number] for number, kind in enumerate(tokens.modalities)}
    return {kind: (mask.numel(), int(mask.sum())) for kind, mask in ({EVERY: skipped} | masks).items()}


def _shares(layers: Iterable[Counts]) -> dict[str, float]:
    """Return, by kind of token, the share of the expert runs that is saved."""
    total: Counts = {}
    for counts in layers:
        for kind, (runs, skipped) in counts.items():
            runs_before, skipped_before = total.get(kind, (0, 0))
            total[kind] = runs_before + runs, skipped_before + skipped
    return {kind: round(skipped / runs, 6) for kind, (runs, skipped) in total.items() if runs}
