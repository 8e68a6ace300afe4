"""Pruning of single weights, block by block, on the inputs that the pruned layers before give."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.calibration.observers import layers_by_input, observe
from sottovoce.calibration.routing import Routed, routed
from sottovoce.calibration.targets import select_layers
from sottovoce.checkpoint.finite import refuse_infinite
from sottovoce.errors import CoverageError
from sottovoce.pruning.parts import float_linear
from sottovoce.pruning.weights_layer import ZeroResult, expected_zeros, prune_layers_
from sottovoce.pruning.weights_step import PruneWeights
from sottovoce.pruning.zeros import GROUP
from sottovoce.report import Coverage, StepReport, Target
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import KERNEL_ROWS, Expert, Experts, assigned, experts_in, in_kernel_sizes

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.model import Model

_LAYERS, _NOTES = "layers", "notes"
LEAST_TOKENS = KERNEL_ROWS
"""Tokens that an expert must be given: with fewer, their moments say little of what comes."""


class PruneWeightsRunner(BlockStep):
    """Runner of the step ``prune_weights``."""

    divides_samples = True

    def __init__(self, model: Model, architecture: Architecture, step: PruneWeights) -> None:
        """Choose the layers without changing the model.

        Raises:
            CoverageError: A target is not a float linear layer, nothing is a target, or four do not divide its inputs.
            NotFiniteError: A weight is not finite.
        """
        self.name = step.name
        self._model, self._architecture, self._step = model, architecture, step
        selection = select_layers(model.module, architecture, step.targets, step.ignore, "keep")
        if not selection.layers:
            raise CoverageError(f"{step.name}: the targets meet no layer of {architecture.name}; see inspect for names")
        self._selection, self._names = selection.without_layers(), list(selection.layers)
        for name, layer in selection.layers.items():
            width = model.planned_inputs.get(name, int(layer.weight.shape[1]))
            if step.pattern and width % GROUP:
                raise CoverageError(
                    f"{step.name}: four do not divide the {counted(width, 'input')} of {name!r}, as 2:4 needs; name it "
                    "in ignore"
                )
            if model.stream is None and not layer.weight.is_meta:
                refuse_infinite([(f"{name}.weight", layer.weight)])
        self._results: dict[str, ZeroResult] = {}
        self._notes: list[str] = []
        self._seconds = {"running blocks": 0.0, "pruning layers": 0.0}
        self._has_samples = False

    @property
    def layers(self) -> Sequence[str]:
        """Layers to prune."""
        return self._names

    def process_block(self, block: Block) -> dict[str, Any]:
        """Prune the layers of one block.

        Raises:
            NotFiniteError: A weight or an input is not finite, or the moments cannot be inverted.
            CoverageError: An earlier step quantized a layer.
        """
        modules = {f"{block.name}.{name}" if name else block.name for name, _ in block.module.named_modules()}
        names = [name for name in self._names if name in modules and name not in self._results]
        first_note = len(self._notes)
        for name in names:
            layer = float_linear(self._model.module, name)
            if self._model.stream is not None and not layer.weight.is_meta:
                refuse_infinite([(f"{name}.weight", layer.weight)])
        if block.is_reached:
            self._has_samples = True
            self._prune_on_samples(block, names)
        else:
            self._prune(names, {})
        facts = {name: asdict(self._results[name]) for name in names}
        return {_LAYERS: facts, _NOTES: self._notes[first_note:]}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Remember the results; the structure of a block does not change."""
        self._notes.extend(facts[_NOTES])
        self._results |= {name: ZeroResult(**fact) for name, fact in facts[_LAYERS].items()}

    def on_end(self) -> StepReport:
        """Report the layers; those that an earlier step removed are not counted."""
        results = self._results
        selection = self._selection.reduced(self._model.module, results, self._architecture)
        targets = [
            Target(name=name, parameters=result.zeros, output_error=result.output_error)
            for name, result in results.items()
        ]
        parameters = {**selection.parameters, **{f"{name}.weight": result.weights for name, result in results.items()}}
        sizes = ("weights", "zeros", "dense_bytes", "bitmask_bytes")
        return StepReport(
            step=self._step.to_dict(),
            targets=tuple(targets),
            kept=selection.kept,
            coverage=Coverage.of(self._architecture.part_of, parameters, targets),
            notes=tuple(self._notes),
            timing={what: round(spent, 2) for what, spent in self._seconds.items()} if self._has_samples else {},
            details={size: sum(getattr(result, size) for result in results.values()) for size in sizes},
        )

    def _prune(self, names: Iterable[str], statistics: Mapping[str, InputStatistics]) -> None:
        begin = time.perf_counter()
        layers = {name: float_linear(self._model.module, name) for name in names}
        meta = {name: layer for name, layer in layers.items() if layer.weight.is_meta}
        self._results |= {name: expected_zeros(layer, self._step) for name, layer in meta.items()}
        seen = {name: layer for name, layer in layers.items() if name not in meta}
        self._results |= prune_layers_(seen, statistics, self._step)
        self._seconds["pruning layers"] += time.perf_counter() - begin

    def _prune_on_samples(self, block: Block, names: Sequence[str]) -> None:
        mixtures = [name for name, _ in experts_in(block.module, block.name)]
        dense = [name for name in names if not any(name.startswith(f"{mixture}.") for mixture in mixtures)]
        order = layers_by_input(block, dense)
        for group in order.groups:
            begin = time.perf_counter()
            statistics = observe(block, group, order)
            self._seconds["running blocks"] += time.perf_counter() - begin
            self._prune(group, {name: counts for name, counts in statistics.items() if counts.rows})
            if self._step.needs_samples:
                unseen = (name for name in group if not statistics[name].rows)
                self._notes.extend(f"{name}: no sample reached it; pruned by magnitude" for name in unseen)
        for mixture in mixtures:
            inside = [name for name in names if name.startswith(f"{mixture}.")]
            tokens = routed(block, mixture) if inside else None
            experts = self._model.module.get_submodule(mixture)
            assert isinstance(experts, Experts)
            self._prune_experts(experts, mixture, inside, tokens)

    def _prune_experts(self, experts: Experts, mixture: str, names: Sequence[str], tokens: Routed | None) -> None:
        rows = {} if tokens is None else {number: places for number, places, _ in assigned(tokens.index)}
        few = []
        for number, expert in enumerate(experts):
            assert isinstance(expert, Expert)
            inside = [name for name in names if name.startswith(f"{mixture}.{number}.")]
            if tokens is None or len(rows.get(number, ())) < LEAST_TOKENS:
                few += [number] if inside else []
                self._prune(inside, {})
                continue
            x = tokens.hidden[rows[number]]
            last = f"{mixture}.{number}.down_proj"
            first = [name for name in inside if name != last]
            self._prune(first, dict.fromkeys(first, _statistics(mixture, x)))
            if last in inside:
                self._prune([last], {last: _statistics(last, expert.hidden(in_kernel_sizes(x))[: len(x)])})
        if few and self._step.needs_samples:
            self._notes.append(
                f"{mixture}: {counted(len(few), 'expert was', 'experts were')} given under {LEAST_TOKENS} tokens and "
                "pruned by magnitude"
            )


def _statistics(name: str, x: Any) -> InputStatistics:
    statistics = InputStatistics(x.shape[-1], x.device)
    statistics.add(name, x)
    return statistics
