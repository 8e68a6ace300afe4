"""Pruning of hidden units, block by block: later layers are fitted on the outputs of those already pruned."""

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
from sottovoce.pruning.layer_report import step_report
from sottovoce.pruning.parts import scale_settings_
from sottovoce.pruning.step import PruneWidth
from sottovoce.pruning.width_fit import choose_units, regressions
from sottovoce.pruning.width_inputs import LayerInputs, observe_layers
from sottovoce.pruning.width_layer import WidthLayer, plan_layers
from sottovoce.report import StepReport
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.model import Model

_LAYERS, _NOTES = "layers", "notes"
_FEW = " are few to fit "
"""Words of the note on few rows, which is given once."""


class PruneWidthRunner(BlockStep):
    """Runner of the step ``prune_width``."""

    divides_samples = True

    def __init__(self, model: Model, architecture: Architecture, step: PruneWidth) -> None:
        """Plan the work without changing the model.

        Raises:
            RecipeError: The family has no such part, or more units are to stay than there are.
            CoverageError: A layer is quantized already, or nothing would be removed.
            PluginError: The family's shape does not fit the model.
        """
        self.name, self.uses_original_outputs = step.name, step.refit
        self._model, self._architecture, self._step = model, architecture, step
        self._parameters = {name: parameter.numel() for name, parameter in model.module.named_parameters()}
        self._layers = {layer.name: layer for layer in plan_layers(model, architecture, step)}
        for layer in self._layers.values():
            model.planned_inputs[layer.output] = layer.keep
        if step.refit:
            self.original_layers = [layer.output for layer in self._layers.values() if layer.drifts_alone]
        self._results: dict[str, LayerErrors] = {}
        self._removed: dict[str, int] = {}
        self._notes: list[str] = []
        self._seconds = {"running blocks": 0.0, "fitting layers": 0.0}

    @property
    def layers(self) -> Sequence[str]:
        """Names of the modules that hold the units."""
        return list(self._layers)

    def process_block(self, block: Block) -> dict[str, Any]:
        """Prune the units of one block.

        Raises:
            SamplesError: No sample reaches them, or too few rows do for the fit.
            NotFiniteError: An input is not finite.
        """
        names = [name for name in self._layers if f"{name}.".startswith(f"{block.name}.") and name not in self._results]
        first_note = len(self._notes)
        layers = [self._layers[name] for name in names]
        if not self._step.needs_samples or next(block.module.parameters()).is_meta:
            for layer in layers:
                self._prune_unseen(layer)
        else:
            self._prune_on_samples(block, layers)
        facts = {name: self._results[name].model_dump() for name in names}
        return {_LAYERS: facts, _NOTES: self._notes[first_note:]}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Remove the units that :meth:`process_block` removed."""
        self._notes.extend(facts[_NOTES])
        for name, fact in facts[_LAYERS].items():
            self._results[name] = LayerErrors.model_validate(fact)
            self._removed[name] = self._layers[name].slice_(self._model.module, self._results[name].kept)

    def on_end(self) -> StepReport:
        """Write the new widths into the configuration; return the report."""
        parts: dict[str, PartCounts] = {}
        for width in {layer.width.part: layer.width for layer in self._layers.values()}.values():
            layers = [layer for layer in self._layers.values() if layer.width is width]
            scale_settings_(self._model, width.keys, layers[0].units, layers[0].keep)
            parts[width.part] = PartCounts(before=layers[0].units, kept=layers[0].keep, layers=len(layers))
        for layer in self._layers.values():
            self._model.planned_inputs.pop(layer.output, None)
        return step_report(
            self._step.to_dict(),
            self._architecture,
            self._parameters,
            self._removed,
            parts,
            self._results,
            (*self._notes, *notes_on_fits(self._step, self._results)),
            {task: round(spent, 2) for task, spent in self._seconds.items()} if self._step.needs_samples else {},
        )

    def _prune_unseen(self, layer: WidthLayer) -> None:
        """Prune by the weights alone; without data, the first units stay."""
        kept: Sequence[int] = range(layer.keep)
        if not layer.is_meta(self._model.module):
            kept = choose_units(layer, self._model.module, "magnitude").tolist()
        self._removed[layer.name] = layer.slice_(self._model.module, kept)
        self._results[layer.name] = LayerErrors(before=layer.units, kept=tuple(kept))

    def _prune_on_samples(self, block: Block, layers: Sequence[WidthLayer]) -> None:
        if not block.is_reached:
            raise SamplesError(f"no sample reaches the block {block.name!r}; give samples that do")
        split = SplitThreads.of(block, self._step.held_out)
        poor: list[str] = []
        begin = time.perf_counter()
        for inputs in observe_layers(block, layers, split):
            self._seconds["running blocks"] += time.perf_counter() - begin
            begin = time.perf_counter()
            layer = inputs.layer
            if layer.is_expert and inputs.fitted.rows < layer.keep:
                self._prune_unseen(layer)
                poor.append(layer.name)
            else:
                rows = inputs.fitted.rows + (inputs.held_out.rows if split.is_held_out else 0)
                needed = layer.keep if self._step.refit else 1
                note = check_rows(layer.output, rows, needed, len(block.keys), "units")
                if note and not any(_FEW in other for other in self._notes):
                    self._notes.append(note)
                self._fit(block, inputs, split)
            self._seconds["fitting layers"] += time.perf_counter() - begin
            begin = time.perf_counter()
        if poor:
            self._notes.append(
                f"{block.name}: {len(poor)} of {counted(len(layers), 'expert')} had fewer tokens than units stay; "
                "magnitudes choose there, and nothing is refitted"
            )

    def _fit(self, block: Block, inputs: LayerInputs, split: SplitThreads) -> None:
        """Prune one layer, and measure its error on the samples that it was not fitted on."""
        layer, step, root = inputs.layer, self._step, block.root
        kept = choose_units(layer, root, step.score, inputs.fitted, step.damp)
        fitted, held_out = regressions(block, inputs, kept, split)
        removed = layer.slice_(root, kept.tolist())
        output = layer.linear(root, layer.width.output)
        self._removed[layer.name] = removed
        stored = fitted.merged(held_out) if split.is_held_out else fitted
        regressions_of = Regressions(fitted, held_out if split.is_held_out else None, stored)
        self._results[layer.name] = compensate_(output, step, layer.units, kept.tolist(), regressions_of)
