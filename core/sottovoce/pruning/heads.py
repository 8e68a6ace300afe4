"""Pruning of attention heads, block by block: later layers are fitted on the outputs of those already pruned."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.held_out import SplitThreads
from sottovoce.errors import SamplesError
from sottovoce.pruning.compensation import Regressions, check_rows, compensate_, notes_on_fits
from sottovoce.pruning.description import LayerErrors, PartCounts
from sottovoce.pruning.heads_choice import choose_groups, observe_outputs
from sottovoce.pruning.heads_layer import HeadsLayer, plan_layers
from sottovoce.pruning.layer_report import step_report
from sottovoce.pruning.moments import Moments
from sottovoce.pruning.obs import columns_of
from sottovoce.pruning.parts import scale_settings_
from sottovoce.pruning.refit import Regression
from sottovoce.pruning.step import PruneHeads
from sottovoce.report import StepReport

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.model import Model

_LAYERS, _NOTES = "layers", "notes"


class PruneHeadsRunner(BlockStep):
    """Runner of the step ``prune_heads``."""

    divides_samples = True

    def __init__(self, model: Model, architecture: Architecture, step: PruneHeads) -> None:
        """Plan the work without changing the model.

        Raises:
            RecipeError: The family has no such part, more heads are to stay than there are, none would be removed, or
                the model's own class takes no such number.
            CoverageError: A layer is quantized already.
            PluginError: The family's shape does not fit the model.
        """
        self.name = step.name
        self._model, self._architecture, self._step = model, architecture, step
        self._parameters = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
        self._layers = {layer.name: layer for layer in plan_layers(model, architecture, step)}
        for layer in self._layers.values():
            model.planned_inputs[layer.output_name] = layer.keep * layer.size
        self._results: dict[str, LayerErrors] = {}
        self._removed: dict[str, int] = {}
        self._few_rows: list[str] = []
        self._seconds = {"running blocks": 0.0, "fitting layers": 0.0}

    @property
    def layers(self) -> Sequence[str]:
        """Names of the attentions."""
        return list(self._layers)

    def process_block(self, block: Block) -> dict[str, Any]:
        """Prune the heads of one block.

        Raises:
            SamplesError: No sample reaches them, or too few rows do for the fit.
            NotFiniteError: An input is not finite.
        """
        names = [name for name in self._layers if f"{name}.".startswith(f"{block.name}.")]
        layers, first_note = [self._layers[name] for name in names], len(self._few_rows)
        if not self._step.needs_samples or next(block.module.parameters()).is_meta:
            for layer in layers:
                self._prune_unseen(layer)
        else:
            self._prune_on_samples(block, layers)
        facts = {name: self._results[name].model_dump() for name in names}
        return {_LAYERS: facts, _NOTES: self._few_rows[first_note:]}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Remove the heads that :meth:`process_block` removed."""
        self._few_rows.extend(facts[_NOTES])
        for name, fact in facts[_LAYERS].items():
            self._results[name] = LayerErrors.model_validate(fact)
            self._removed[name] = self._layers[name].slice_(self._model, self._results[name].kept)

    def on_end(self) -> StepReport:
        """Write the new numbers of heads into the configuration; return the report."""
        parts: dict[str, PartCounts] = {}
        notes: list[str] = []
        for heads in {layer.heads.part: layer.heads for layer in self._layers.values()}.values():
            layers = [layer for layer in self._layers.values() if layer.heads is heads]
            scale_settings_(self._model, heads.keys, layers[0].groups, layers[0].keep)
            parts[heads.part] = PartCounts(before=layers[0].groups, kept=layers[0].keep, layers=len(layers))
            if heads.own_class:
                notes.append(f"{heads.part}: {heads.own_class}")
        for layer in self._layers.values():
            self._model.planned_inputs.pop(layer.output_name, None)
        return step_report(
            self._step.to_dict(),
            self._architecture,
            self._parameters,
            self._removed,
            parts,
            self._results,
            (*notes, *self._few_rows[:1], *notes_on_fits(self._step, self._results)),
            {task: round(spent, 2) for task, spent in self._seconds.items()} if self._step.needs_samples else {},
        )

    def _prune_unseen(self, layer: HeadsLayer) -> None:
        """Prune by the weights alone; without data, the first heads stay."""
        kept: Sequence[int] = range(layer.keep)
        weight = layer.output(self._model.module).weight.detach()
        if not weight.is_meta:
            kept = choose_groups(weight, layer.groups, layer.keep, "magnitude")
        self._removed[layer.name] = layer.slice_(self._model, kept)
        self._results[layer.name] = LayerErrors(before=layer.groups, kept=tuple(kept))

    def _prune_on_samples(self, block: Block, layers: Sequence[HeadsLayer]) -> None:
        if not block.is_reached:
            raise SamplesError(f"no sample reaches the block {block.name!r}; give samples that do")
        split = SplitThreads.of(block, self._step.held_out)
        begin = time.perf_counter()
        fitted = observe_outputs(block, layers, split.fitted)
        held_out = observe_outputs(block, layers, split.held_out) if split.is_held_out else {}
        self._seconds["running blocks"] += time.perf_counter() - begin
        begin = time.perf_counter()
        for layer in layers:
            rows = fitted[layer.name].rows + (held_out[layer.name].rows if held_out else 0)
            inputs = layer.keep * layer.size if self._step.refit else 1
            if note := check_rows(layer.output_name, rows, inputs, len(block.keys), "inputs"):
                self._few_rows.append(note)
            self._fit(layer, fitted[layer.name], held_out.get(layer.name))
        self._seconds["fitting layers"] += time.perf_counter() - begin

    def _fit(self, layer: HeadsLayer, fitted: Moments, held_out: Moments | None) -> None:
        """Prune one attention, and measure its error on the samples that it was not fitted on."""
        step, root = self._step, self._model.module
        weight = layer.output(root).weight.detach()
        kept = choose_groups(weight, layer.groups, layer.keep, step.score, fitted, step.damp)
        columns = columns_of(kept, layer.size, weight.device)
        # What a head gives does not depend on the others, so the moments stay as they are.
        regression = Regression.of_columns(fitted, weight, columns)
        others = Regression.of_columns(held_out, weight, columns) if held_out is not None and held_out.rows else None
        self._removed[layer.name] = layer.slice_(self._model, kept)
        both = regression if others is None else regression.merged(others)
        regressions = Regressions(regression, others, both)
        self._results[layer.name] = compensate_(layer.output(root), step, layer.groups, kept, regressions)
