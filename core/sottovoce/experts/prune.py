"""Expert pruning block by block: later layers are measured on the outputs of the layers already pruned."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.routing import Routed
from sottovoce.errors import CoverageError, RecipeError, SamplesError, SourceError
from sottovoce.experts.layers import ExpertLayer, names_in_block, plan_layers, update_configured_count_
from sottovoce.experts.plots import saliency_curves
from sottovoce.experts.prune_layer import prune_layer_
from sottovoce.experts.pruning_report import SALIENCY, layer_details, layer_facts, part_details
from sottovoce.experts.removal import prune_experts_in_layer_
from sottovoce.experts.saliency import Saliency, measure, read_saliency, write_saliency
from sottovoce.experts.selection import Choice, choose_experts
from sottovoce.experts.step import PruneExperts
from sottovoce.experts.threshold import keep_by_usage
from sottovoce.experts.tokens import TokenCollector
from sottovoce.experts.usage import measure_usage
from sottovoce.report import Coverage, StepReport, Target
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Experts

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model

_LAYERS = "layers"


class PruneExpertsRunner(BlockStep):
    """Runner of one pruning step, block by block."""

    divides_samples = True

    def __init__(
        self, model: Model, architecture: Architecture, step: PruneExperts, calibration: Calibration | None = None
    ) -> None:
        """Plan the work without changing the model.

        Args:
            model: The model, its experts as :class:`~sottovoce.runtime.experts.Experts`.
            architecture: Its family.
            step: What to prune.
            calibration: The samples that the use of experts is counted on, if the step has a threshold.

        Raises:
            RecipeError: The model has no experts, or none of a part that the step names, or too few or more would stay
                than there are.
            SourceError: The step's file of scores is not valid, or lacks a layer.
            PluginError: The architecture's layout does not fit the model.
        """
        self.name = step.name
        self.model, self.architecture, self.step = model, architecture, step
        self._parameters = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
        self._layers, self._kept = plan_layers(model, architecture, step)
        self._scores = self._read_scores()
        self._calibration, self._notes = calibration, list[str]()
        self._facts: dict[str, dict[str, Any]] = {}
        self._tokens = TokenCollector(model, step.held_out)
        self._measuring_seconds = 0.0

    @property
    def layers(self) -> Sequence[str]:
        """Names of the modules that hold the experts."""
        return list(self._layers)

    @property
    def saliency(self) -> dict[str, Saliency]:
        """Saliency measured so far, for :func:`~sottovoce.experts.saliency.write_saliency` and for plots."""
        return {name: Saliency.from_dict(facts[SALIENCY]) for name, facts in self._facts.items() if facts[SALIENCY]}

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """Experts that stayed so far, by the numbers that they had before."""
        return {name: tuple(facts["kept"]) for name, facts in self._facts.items()}

    def on_start(self) -> None:
        """Count the use of the experts if a threshold decides how many stay.

        Raises:
            SamplesError: No sample reaches a layer.
            CoverageError: All experts would stay.
        """
        counted = {name: layer.experts for name, layer in self._layers.items() if layer.step.threshold is not None}
        if counted and next(self.model.module.parameters()).is_meta and not self._calibration and not self._scores:
            self._notes.append("the number of experts below the threshold is known only with samples; all are kept")
        elif counted:
            self._layers, notes = keep_by_usage(self._layers, self._count_use(counted), self.name)
            self._notes.extend(notes)

    def process_block(self, block: Block) -> dict[str, Any]:
        """Prune the experts of one block.

        Raises:
            SamplesError: No sample reaches them, and there is no file of scores.
            NotFiniteError: An expert's output is not finite.
            CoverageError: The layer is quantized already, or its router is of an unknown kind.
        """
        pruned: dict[str, dict[str, Any]] = {}
        for name in names_in_block(self._layers, block.name):
            if name not in self._facts:
                pruned[name] = self._facts[name] = self._prune(block, self._layers[name])
        return {_LAYERS: pruned}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Remove the experts that :meth:`process_block` removed, without reading their weights."""
        for name, pruned in facts[_LAYERS].items():
            self._facts[name] = dict(pruned)
            prune_experts_in_layer_(*self._layers[name].modules(self.model.module), pruned["kept"])

    def on_end(self) -> StepReport:
        """Write the new numbers of experts into the configuration and the modules that count them; return the report.

        The model gets the saliency as an attachment, and a plot of it where matplotlib is installed.
        """
        for layer in self._layers.values():
            update_configured_count_(self.model, layer)
        if saliency := self.saliency:
            self._attach(saliency)
        targets = [Target(name=name, parameters=facts["removed_parameters"]) for name, facts in self._facts.items()]
        notes = self._notes + [f"{name}: {note}" for name, facts in self._facts.items() for note in facts["notes"]]
        seconds = {"running blocks": self._tokens.seconds, "measuring experts": self._measuring_seconds}
        layers = {name: layer_details(self._layers[name], facts) for name, facts in self._facts.items()}
        return StepReport(
            step=self.step.to_dict(),
            targets=tuple(targets),
            kept=self._kept,
            coverage=Coverage.of(self.architecture.part_of, self._parameters, targets),
            notes=tuple(notes),
            timing={task: round(spent, 2) for task, spent in seconds.items()},
            details={"parts": part_details(self._layers.values()), _LAYERS: layers},
        )

    def _count_use(self, layers: Mapping[str, int]) -> Mapping[str, Tensor]:
        if self._scores is not None:
            return {name: self._scores[name].score("frequency") for name in layers}
        if not self._calibration:
            raise SamplesError("a threshold is a share of how often experts are chosen: give samples (--data)")
        counts = measure_usage(self.model, layers, self._calibration)
        if missing := [name for name in layers if name not in counts]:
            raise SamplesError(f"no sample reaches the experts {missing[0]!r}; give samples that do")
        return counts

    def _attach(self, saliency: dict[str, Saliency]) -> None:
        kept, metric = self.kept, self.step.saliency
        self.model.attachments["saliency.json"] = lambda path: write_saliency(path, saliency)
        if importlib.util.find_spec("matplotlib"):
            self.model.attachments["saliency.png"] = lambda path: saliency_curves(saliency, kept, path, metric)

    def _read_scores(self) -> dict[str, Saliency] | None:
        if self.step.scores is None:
            return None
        scores = read_saliency(Path(self.step.scores))
        for name, layer in self._layers.items():
            if name not in scores or scores[name].experts != layer.experts:
                has = f"{counted(scores[name].experts, 'expert')} of" if name in scores else "nothing on"
                raise SourceError(f"{self.step.scores}: has {has} {name!r}, which has {layer.experts}; measure it anew")
        return scores

    def _prune(self, block: Block, layer: ExpertLayer) -> dict[str, Any]:
        experts, router = layer.modules(self.model.module)
        if len(experts) != layer.experts:
            raise CoverageError(f"an earlier step removed experts from {layer.name!r}; prune them in one step")
        size = _parameter_count(experts, router)
        if next(router.parameters()).is_meta:
            # Nothing runs; only the sizes are needed.
            kept: Sequence[int] = range(layer.keep)
            prune_experts_in_layer_(experts, router, kept)
            facts: dict[str, Any] = {SALIENCY: None, "notes": []}
        else:
            tokens = self._tokens.collect(block, layer)
            saliency = self._measure(layer, experts, tokens.calibration)
            choice = self._choose(layer, saliency)
            kept = choice.kept
            merge_by = saliency.score(layer.step.saliency) if layer.step.merge else None
            change = prune_layer_(experts, router, kept, tokens, merge_by)
            facts = layer_facts(choice, saliency, change, tokens.held_out)
        removed = size - _parameter_count(experts, router)
        return {"experts": layer.experts, "kept": list(kept), "removed_parameters": removed} | facts

    def _measure(self, layer: ExpertLayer, experts: Experts, tokens: Routed | None) -> Saliency:
        if self._scores is not None:
            return self._scores[layer.name]
        if tokens is None:
            raise SamplesError(
                f"no sample reaches the experts {layer.name!r}; give samples that do, or leave the part as it is "
                f"({layer.layout.part}: false)"
            )
        begin = time.perf_counter()
        saliency = measure(experts, tokens)
        self._measuring_seconds += time.perf_counter() - begin
        return saliency

    def _choose(self, layer: ExpertLayer, saliency: Saliency) -> Choice:
        part = layer.layout.part
        protect = layer.layout.protect if layer.step.protect is None else layer.step.protect
        if lacking := sorted(set(protect) - set(saliency.modalities)):
            kinds = ", ".join(saliency.modalities)
            raise RecipeError(
                f"{part}: experts for {lacking[0]!r} are protected, and no sample has such tokens "
                f"(there are: {kinds}); give samples that do, or another 'protect' in the recipe, such as {{}}"
            )
        pruned = [facts for name, facts in self._facts.items() if self._layers[name].layout.part == part]
        largest = max((max(facts[SALIENCY]["largest"]) for facts in pruned), default=0.0)
        return choose_experts(saliency, layer.keep, layer.step.saliency, protect, self.step.super_experts, largest)


def _parameter_count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
