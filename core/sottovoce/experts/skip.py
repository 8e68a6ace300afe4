"""Skipping experts at run time, block by block: what it saves and costs is measured on what reaches a block now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sottovoce.calibration.blocks import Block
from sottovoce.calibration.routing import EVERY, routed
from sottovoce.experts.skipping_plan import plan_skipping
from sottovoce.experts.surgery import damage
from sottovoce.report import StepReport
from sottovoce.runtime.expert_skipping import RENORMALIZE, THRESHOLD, Skipping, settings_of
from sottovoce.runtime.experts import Experts

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.routing import Routed
    from sottovoce.model import Model
    from sottovoce.recipe.step import SkipExperts
    from sottovoce.samples import Sample

_LAYERS = "layers"
Counts = dict[str, tuple[int, int]]
"""By kind of token, how many experts would have run and how many of them do not."""


class SkipExpertsRunner:
    """One skipping step on its way through the blocks (see :class:`~sottovoce.calibration.runner.BlockStep`)."""

    def __init__(self, model: Model, architecture: Architecture, step: SkipExperts) -> None:
        """Prepare the work; nothing is changed yet.

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
        """The modules that hold the experts."""
        return list(self._layers)

    def on_start(self) -> None:
        """Nothing lies outside of the blocks."""

    def process_block(self, block: Block) -> dict[str, Any]:
        """Have the experts of one block skip, and measure what it does where samples reach them.

        Raises:
            NotFiniteError: What the experts are given is not finite.
        """
        inside = [name for name in self._layers if name == block.name or name.startswith(f"{block.name}.")]
        made = {name: self._skip_(block, name) for name in inside}
        self._facts |= made
        return {_LAYERS: made}

    def restore_(self, block: str, facts: Mapping[str, Any]) -> None:
        """Have the experts skip that :meth:`process_block` had skip."""
        for name, fact in facts[_LAYERS].items():
            self._facts[name] = dict(fact)
            self._experts(name).skipping = self.skipping

    def on_end(self) -> StepReport:
        """Write the settings into the configuration, beside the number of experts."""
        config = self.model.native.config
        for layout in self._layers.values():
            settings = settings_of(config, layout)
            setattr(settings, THRESHOLD, self.step.threshold)
            setattr(settings, RENORMALIZE, self.step.renormalize)
        return StepReport(step=self.step.to_dict(), kept=self._kept, details=self._details())

    def _skip_(self, block: Block, name: str) -> dict[str, Any]:
        experts = self._experts(name)
        found = routed(block, name, self._kinds_of(name)) if block.sample_threads else None
        # An earlier step may have had them skip already; what is lost is lost against all of them.
        experts.skipping = None
        before = _output(experts, found) if found else None
        experts.skipping = self.skipping
        if not found or before is None:
            return {}
        lost = damage(before, _output(experts, found)).error
        return {"runs": _counted(self.skipping.skipped(found.weight), found), "error": float(f"{lost:.6g}")}

    def _experts(self, name: str) -> Experts:
        experts = self.model.module.get_submodule(name)
        assert isinstance(experts, Experts)
        return experts

    def _kinds_of(self, name: str) -> Any:
        """A function that names the kinds of a sample's tokens, which are the same in all layers of a part."""
        asked, part = self.architecture.runner.modalities, self._layers[name].part

        def kinds(sample: Sample) -> Sequence[str]:
            if (part, sample.key) not in self._kinds and asked is not None:
                self._kinds[part, sample.key] = asked(self.model, sample, name)
            return self._kinds[part, sample.key]

        return kinds if asked else None

    def _details(self) -> dict[str, Any]:
        measured = {name: fact for name, fact in self._facts.items() if fact}
        layers = {
            name: {"saved": _shares([fact["runs"]]), "error": fact["error"]} if fact else {}
            for name, fact in self._facts.items()
        }
        return {"saved": _shares(fact["runs"] for fact in measured.values()), _LAYERS: layers}


@torch.no_grad()
def _output(experts: Experts, found: Routed) -> Tensor:
    made: Tensor = experts(found.hidden, found.index, found.weight)
    return made


def _counted(skipped: Tensor, found: Routed) -> Counts:
    """Of the mask ``[tokens, top_k]``: all of it, and by kind of token."""
    masks = {kind: skipped[found.modality == number] for number, kind in enumerate(found.modalities)}
    return {kind: (mask.numel(), int(mask.sum())) for kind, mask in ({EVERY: skipped} | masks).items()}


def _shares(layers: Iterable[Counts]) -> dict[str, float]:
    """By kind of token, the share of the experts' runs that is saved."""
    total: Counts = {}
    for counts in layers:
        for kind, (runs, skipped) in counts.items():
            runs_before, skipped_before = total.get(kind, (0, 0))
            total[kind] = runs_before + runs, skipped_before + skipped
    return {kind: round(skipped / runs, 6) for kind, (runs, skipped) in total.items() if runs}
