"""Expert pruning block by block: measured on what reaches a block now, so that later layers see what earlier became."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.blocks import Block
from sottovoce.calibration.routing import Routed
from sottovoce.calibration.routing import routed as run_to_experts
from sottovoce.errors import CoverageError, RecipeError, SamplesError, SourceError
from sottovoce.experts.layers import ExpertLayer, count_anew_, plan_layers
from sottovoce.experts.merge import merge_experts_, router_similarity
from sottovoce.experts.plots import saliency_curves
from sottovoce.experts.saliency import Saliency, measure, read_saliency, write_saliency
from sottovoce.experts.selection import Choice, choose_experts
from sottovoce.experts.surgery import damage, gate_growth, keep_experts_, linear, output, rescale_experts_
from sottovoce.experts.usage import measure_usage, used_experts
from sottovoce.recipe.step import PruneExperts
from sottovoce.report import Coverage, StepReport, Target
from sottovoce.runtime.experts import Experts

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.calibration.sample_threads import SampleThread
    from sottovoce.model import Model
    from sottovoce.samples import Sample

_LAYERS, _SALIENCY = "layers", "saliency"
ALL = "all"
"""What a report calls the tokens of all kinds together."""


class PruneExpertsRunner:
    """One pruning step on its way through the blocks (see :class:`~sottovoce.calibration.runner.BlockStep`)."""

    def __init__(
        self, model: Model, architecture: Architecture, step: PruneExperts, calibration: Calibration | None = None
    ) -> None:
        """Prepare the work; nothing is changed yet.

        Args:
            model: The model, its experts as :class:`~sottovoce.runtime.experts.Experts`.
            architecture: Its family.
            step: What to prune.
            calibration: The samples that the use of experts is counted on, where the step has a threshold.

        Raises:
            RecipeError: The model has no experts, or none of a part that the step names, or too few or more would stay
                than there are.
            SourceError: The step's file of scores is none, or has not all layers.
            PluginError: The architecture's layout does not fit the model.
        """
        self.name = step.name
        self.model, self.architecture, self.step = model, architecture, step
        self._parameters = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
        self._layers, self._kept = plan_layers(model, architecture, step)
        self._scores = self._read_scores()
        self._calibration, self._notes = calibration, list[str]()
        self._facts: dict[str, dict[str, Any]] = {}
        self._held_out: dict[str, frozenset[str]] = {}
        self._kinds_of: dict[tuple[str, str], Sequence[str]] = {}
        self._seconds = {"running blocks": 0.0, "measuring experts": 0.0}

    @property
    def layers(self) -> Sequence[str]:
        """The modules that hold the experts."""
        return list(self._layers)

    @property
    def saliency(self) -> dict[str, Saliency]:
        """What was measured so far, for :func:`~sottovoce.experts.saliency.write_saliency` and for plots."""
        return {name: Saliency.from_dict(fact[_SALIENCY]) for name, fact in self._facts.items() if fact[_SALIENCY]}

    @property
    def kept(self) -> dict[str, tuple[int, ...]]:
        """The experts that stayed so far, by the numbers that they had."""
        return {name: tuple(fact["kept"]) for name, fact in self._facts.items()}

    def on_start(self) -> None:
        """Count the use of the experts where a threshold says how many stay.

        Raises:
            SamplesError: No sample reaches a layer.
            CoverageError: All experts would stay.
        """
        counted = {name: layer.experts for name, layer in self._layers.items() if layer.step.threshold is not None}
        if counted and next(self.model.module.parameters()).is_meta and not self._calibration and not self._scores:
            self._notes.append("how many experts are under the threshold is only known on samples: none are left out")
        elif counted:
            self._keep_used_(self._count_use(counted))

    def process_block(self, block: Block) -> dict[str, Any]:
        """Prune the experts of one block.

        Raises:
            SamplesError: No sample reaches them, and there is no file of scores.
            NotFiniteError: An expert's output is not finite.
            CoverageError: The layer is quantized already, or its router is of an unknown kind.
        """
        made: dict[str, dict[str, Any]] = {}
        for layer in self._layers_in(block.name):
            made[layer.name] = self._facts[layer.name] = self._prune_(block, layer)
        return {_LAYERS: made}

    def restore_(self, block: str, facts: Mapping[str, Any]) -> None:
        """Take the experts out that :meth:`process_block` took out, without looking at their weights."""
        for name, fact in facts[_LAYERS].items():
            self._facts[name] = dict(fact)
            self._keep_(self._layers[name], fact["kept"])

    def on_end(self) -> StepReport:
        """Tell the model's configuration, and every module that counts them, how many experts there are."""
        for layer in self._layers.values():
            count_anew_(self.model, layer)
        if saliency := self.saliency:
            self._attach(saliency)
        targets = [Target(name=name, parameters=fact["removed_parameters"]) for name, fact in self._facts.items()]
        notes = self._notes + [f"{name}: {note}" for name, fact in self._facts.items() for note in fact["notes"]]
        return StepReport(
            step=self.step.to_dict(),
            targets=tuple(targets),
            kept=self._kept,
            coverage=Coverage.of(self.architecture.part_of, self._parameters, targets),
            notes=tuple(notes),
            timing={what: round(spent, 2) for what, spent in self._seconds.items()},
            details=self._details(),
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

    def _keep_used_(self, counts: Mapping[str, Tensor]) -> None:
        """Keep as many experts in every layer of a part as the layer needs that has the most over the threshold."""
        stay: dict[str, int] = {}
        for name, tokens in counts.items():
            layer = self._layers[name]
            used = used_experts(tokens, layer.step.threshold or 0.0)
            stay[layer.layout.part] = max(stay.get(layer.layout.part, layer.top_k), used)
        if all(stay[layer.layout.part] == layer.experts for layer in self._layers.values()):
            raise CoverageError(
                f"{self.name}: some layer needs all of its experts by the threshold, and as many stay in every one; "
                "give a larger threshold, or keep"
            )
        for name in counts:
            layer = self._layers[name]
            self._layers[name] = replace(layer, keep=stay[layer.layout.part])
        for part, keep in stay.items():
            experts = next(layer.experts for layer in self._layers.values() if layer.layout.part == part)
            self._notes.append(f"{part}: {keep} of {experts} experts stay in every layer by the threshold")

    def _attach(self, saliency: dict[str, Saliency]) -> None:
        """What was measured goes beside the weights: the numbers, and where it can be drawn, a picture."""
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
                has = f"{scores[name].experts} experts of" if name in scores else "nothing on"
                raise SourceError(f"{self.step.scores}: has {has} {name!r}, which has {layer.experts}; measure it anew")
        return scores

    def _layers_in(self, block: str) -> list[ExpertLayer]:
        inside = [layer for name, layer in self._layers.items() if name == block or name.startswith(f"{block}.")]
        return [layer for layer in inside if layer.name not in self._facts]

    def _prune_(self, block: Block, layer: ExpertLayer) -> dict[str, Any]:
        experts, router = layer.modules(self.model.module)
        if len(experts) != layer.experts:
            raise CoverageError(f"an earlier step took experts out of {layer.name!r}; prune them in one step")
        if next(router.parameters()).is_meta:
            # Nothing runs; only the sizes are asked for.
            return self._keep_(layer, range(layer.keep)) | {_SALIENCY: None, "notes": []}
        sample_threads, held_out = self._lanes(block, layer)
        routed = self._run(block, layer, sample_threads)
        probe = routed if held_out == sample_threads else self._run(block, layer, held_out)
        saliency = self._saliency(layer, experts, routed)
        choice = self._choose(layer, saliency)
        before = output(experts, router, probe.hidden) if probe else None
        merged = _merge_(layer, experts, router, saliency, choice, routed) if layer.step.merge else None
        fact = self._keep_(layer, choice.kept)
        after = output(experts, router, probe.hidden) if probe else None
        sums = getattr(router, "norm_topk_prob", True)
        unscaled = [] if sums else [linear(expert, "down_proj").weight.detach().clone() for expert in experts]
        growth, notes = _make_up_for_growth_(experts, router, choice, routed)
        spoilt = damage(before, after) if before is not None and after is not None else None
        if growth is not None and probe and before is not None and spoilt is not None:
            again = damage(before, output(experts, router, probe.hidden))
            if again.error <= spoilt.error:
                spoilt = again
            else:
                for expert, weight in zip(experts, unscaled, strict=True):
                    linear(expert, "down_proj").weight = nn.Parameter(weight, requires_grad=False)
                notes, growth = [*notes, "making up for grown gate values would have spoilt more, and was left"], None
        return fact | {
            "protected": {kind: list(numbers) for kind, numbers in choice.protected.items()},
            "super_experts": list(choice.super_experts),
            "merged_into": merged,
            "routed_share": _rounded({kind: saliency.routed_share(choice.kept, of) for kind, of in _kinds(saliency)}),
            "gate_growth": None if growth is None else float(f"{1 / float(growth.mean()):.6g}"),
            "damage": spoilt and _rounded(asdict(spoilt)) | {"held_out": held_out != sample_threads},
            _SALIENCY: saliency.to_dict(),
            "notes": [*choice.notes, *notes],
        }

    def _keep_(self, layer: ExpertLayer, kept: Sequence[int]) -> dict[str, Any]:
        experts, router = layer.modules(self.model.module)
        before = _size(experts) + _size(router)
        keep_experts_(experts, router, kept)
        removed = before - _size(experts) - _size(router)
        return {"experts": layer.experts, "kept": list(kept), "removed_parameters": removed}

    def _lanes(self, block: Block, layer: ExpertLayer) -> tuple[Sequence[SampleThread], Sequence[SampleThread]]:
        """The sample_threads to choose by, and those to measure the damage on; the same for all layers of a part."""
        part = layer.layout.part
        if part not in self._held_out:
            self._held_out[part] = held_out_keys(
                [sample_thread.sample.key for sample_thread in block.sample_threads], self.step.held_out
            )
        held = [
            sample_thread for sample_thread in block.sample_threads if sample_thread.sample.key in self._held_out[part]
        ]
        rest = [
            sample_thread
            for sample_thread in block.sample_threads
            if sample_thread.sample.key not in self._held_out[part]
        ]
        # Where only one of them is there, it serves for both, and the report says so.
        return rest or held, (held or rest) if self.step.held_out else []

    def _run(self, block: Block, layer: ExpertLayer, sample_threads: Sequence[SampleThread]) -> Routed | None:
        if not sample_threads:
            return None
        begin = time.perf_counter()
        of_sample = None if self.architecture.runner.modalities is None else functools.partial(self._kinds_in, layer)
        routed = run_to_experts(block, layer.name, of_sample, sample_threads)
        self._seconds["running blocks"] += time.perf_counter() - begin
        return routed if routed is not None and len(routed) else None

    def _kinds_in(self, layer: ExpertLayer, sample: Sample) -> Sequence[str]:
        """The kinds of a sample's tokens, which are the same in all layers of a part."""
        key = layer.layout.part, sample.key
        if key not in self._kinds_of and self.architecture.runner.modalities is not None:
            self._kinds_of[key] = self.architecture.runner.modalities(self.model, sample, layer.name)
        return self._kinds_of[key]

    def _saliency(self, layer: ExpertLayer, experts: Experts, routed: Routed | None) -> Saliency:
        if self._scores is not None:
            return self._scores[layer.name]
        if routed is None:
            raise SamplesError(
                f"no sample reaches the experts {layer.name!r}; give samples that do, or leave the part as it is "
                f"({layer.layout.part}: false)"
            )
        begin = time.perf_counter()
        found = measure(experts, routed)
        self._seconds["measuring experts"] += time.perf_counter() - begin
        return found

    def _choose(self, layer: ExpertLayer, saliency: Saliency) -> Choice:
        protect = layer.layout.protect if layer.step.protect is None else layer.step.protect
        if lacking := sorted(set(protect) - set(saliency.modalities)):
            kinds = ", ".join(saliency.modalities)
            raise RecipeError(
                f"{layer.layout.part}: experts for {lacking[0]!r} are protected, and no sample has such tokens "
                f"(there are: {kinds}); give samples that do, or another 'protect' in the recipe, such as {{}}"
            )
        same_part = [name for name, other in self._layers.items() if other.layout.part == layer.layout.part]
        before = [max(fact[_SALIENCY]["largest"]) for name, fact in self._facts.items() if name in same_part]
        return choose_experts(
            saliency, layer.keep, layer.step.saliency, protect, self.step.super_experts, max(before, default=0.0)
        )

    def _details(self) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        for layer in self._layers.values():
            kept = {"experts": layer.experts, "kept": layer.keep, "saliency": layer.step.saliency}
            part = parts.setdefault(layer.layout.part, {**kept, "layers": 0})
            part["layers"] += 1
        return {"parts": parts, _LAYERS: {name: self._told(name, fact) for name, fact in self._facts.items()}}

    def _told(self, name: str, fact: Mapping[str, Any]) -> dict[str, Any]:
        told = {key: value for key, value in fact.items() if key not in (_SALIENCY, "notes", "removed_parameters")}
        if not fact[_SALIENCY]:
            return told
        saliency, metric = Saliency.from_dict(fact[_SALIENCY]), self._layers[name].step.saliency
        told["scores"] = {kind: _short(saliency.score(metric, of)) for kind, of in _kinds(saliency)}
        return told


def held_out_keys(keys: Sequence[str], share: float) -> frozenset[str]:
    """The samples on which the damage is measured: evenly spread, at least one of two, none of a single one."""
    count = max(1, round(share * len(keys))) if share > 0 and len(keys) > 1 else 0
    return frozenset(keys[(2 * number + 1) * len(keys) // (2 * count)] for number in range(count))


def _merge_(
    layer: ExpertLayer, experts: Experts, router: nn.Module, saliency: Saliency, choice: Choice, routed: Routed | None
) -> dict[str, int]:
    rows: Any = router.weight
    if routed is not None:
        with torch.no_grad():
            rows = router(routed.hidden)[0].t()
    homes = merge_experts_(experts, saliency.score(layer.step.saliency), choice.kept, router_similarity(rows))
    return {str(expert): home for expert, home in homes.items()}


def _make_up_for_growth_(
    experts: Experts, router: nn.Module, choice: Choice, routed: Routed | None
) -> tuple[Tensor | None, list[str]]:
    growth = gate_growth(router, routed, choice.kept) if routed else None
    if growth is not None:
        rescale_experts_(experts, growth)
        return growth, []
    if routed is None and getattr(router, "norm_topk_prob", True) is False:
        return None, ["the gate values of its experts have grown; without samples that is not made up for"]
    return None, []


def _kinds(saliency: Saliency) -> list[tuple[str, str | None]]:
    return [(ALL, None), *((kind, kind) for kind in saliency.modalities if kind != ALL)]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{number:.6g}") for name, number in numbers.items()}


def _short(score: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in score.tolist()]
