"""Quantization block by block; with samples, by the inputs that reach each layer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.observers import Order, layers_by_input, observe
from sottovoce.calibration.output_drift import OutputDrift
from sottovoce.calibration.routing import routed
from sottovoce.calibration.targets import Selection
from sottovoce.checkpoint.finite import refuse_infinite
from sottovoce.errors import CoverageError
from sottovoce.formats.stock_transformers import Stored, limits
from sottovoce.quantization.calibrated import quantize_layer_calibrated_
from sottovoce.quantization.data_free import LayerResult, quantize_layer_
from sottovoce.quantization.experts import nearest_errors, quantize_experts_
from sottovoce.quantization.smooth import scale_inputs_
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.report import StepReport
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Experts, experts_in
from sottovoce.runtime.layers import empty, replace_
from sottovoce.runtime.packed_linear import float_weights_held

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model

_SCHEME, _NOTES = "scheme", "notes"


class QuantizeRunner(BlockStep):
    """Runner of the step ``quantize``."""

    divides_samples = True

    def __init__(
        self,
        model: Model,
        architecture: Architecture,
        step: Quantize,
        calibration: Calibration,
        selection: Selection,
        schemes: Mapping[str, Scheme],
    ) -> None:
        """Prepare the work; nothing is changed yet.

        Args:
            model: The model.
            architecture: Its family.
            step: How to quantize.
            calibration: Samples, or none.
            selection: The layers.
            schemes: Scheme of each layer.
        """
        self.name, self.rescales_weights = step.name, step.options.scales_inputs
        self.model, self.architecture, self.step, self.calibration = model, architecture, step, calibration
        self.module, self.selection, self.schemes = model.module, selection.without_layers(), dict(schemes)
        self._tables = [name for name, layer in selection.layers.items() if isinstance(layer, nn.Embedding)]
        self.results: dict[str, LayerResult] = {}
        self.notes: list[str] = []
        # Apart from the notes, which are logged before the work: it may be refused yet, for its memory.
        self._method_notes: tuple[str, ...] = ()
        if step.options.follows_original:
            self._follow_original()
        self.seconds = {"running blocks": 0.0, "rounding layers": 0.0}
        self._unscaled_error: dict[str, float] = {}

    def _follow_original(self) -> None:
        """Ask for the layers' outputs in the original model, or do without.

        From disk a model with experts must give what it gives in memory, and there the original is not run.
        """
        has_experts = next(iter(experts_in(self.module)), None) is not None
        if not has_experts and self.calibration.has_original(self.model):
            self.original_layers = self.layers
            return
        method, self.step = self.step.method, self.step.without_original
        reason = "the model has experts" if has_experts else "the memory is limited"
        self._method_notes = (
            f"{method}: {reason}, so the original is not run beside it; rounded by {self.step.method}",
        )

    @property
    def layers(self) -> Sequence[str]:
        """Layers to quantize, without tables."""
        return [name for name in self.schemes if name not in self._tables]

    def on_start(self) -> None:
        """Quantize the tables: layers that read them are calibrated on what they give then."""
        for name in self._tables:
            self.results[name] = quantize_layer_(self.module, name, self.schemes[name], self.step)

    def process_block(self, block: Block) -> dict[str, Any]:
        """Quantize the layers of one block."""
        layers = self._layers_in(block)
        first_note = len(self.notes)
        if self.model.stream is not None:
            for name in layers:
                layer = self.module.get_submodule(name)
                refuse_infinite((f"{name}.{key}", tensor) for key, tensor in layer.named_parameters())
        if not block.is_reached:
            for name in layers:
                self._quantize_unseen(name)
        else:
            self._quantize_on_samples(block, layers)
        facts: dict[str, Any] = {name: vars(self.results[name]) for name in layers}
        for name, scheme in layers.items():
            if self.schemes[name] != scheme:
                facts[name] = {**facts[name], _SCHEME: asdict(self.schemes[name])}
        return facts | {_NOTES: self.notes[first_note:]}

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Put empty quantized layers in place for the tensors of a finished block."""
        self.notes.extend(facts[_NOTES])
        for name, fact in facts.items():
            if name == _NOTES:
                continue
            if scheme := fact.get(_SCHEME):
                self.schemes[name] = Scheme(**scheme)
            self.results[name] = LayerResult(**{key: value for key, value in fact.items() if key != _SCHEME})
            layer = self.module.get_submodule(name)
            self._keep_original(name, layer)
            if (quantized := empty(layer, self.schemes[name])) is not None:
                replace_(self.module, name, quantized)

    def on_end(self) -> StepReport:
        """Report the layers; those that an earlier step removed are not counted.

        Raises:
            CoverageError: The samples changed nothing.
        """
        if self.calibration:
            self._refuse_idle_work()
        selection = self.selection.reduced(self.module, self.results, self.architecture)
        self.notes.extend(self.limits())
        return StepReport(
            step=self.step.to_dict(),
            targets=tuple(
                replace(target, width=self.schemes[target.name].bits, **vars(self.results[target.name]))
                for target in selection.targets
            ),
            kept=selection.kept,
            coverage=selection.coverage,
            notes=(*self._method_notes, *self.notes),
            timing={what: round(spent, 2) for what, spent in self.seconds.items()} if self.calibration else {},
        )

    def _refuse_idle_work(self) -> None:
        schemes = [self.schemes[name] for name in self.results if name not in self._tables]
        if self.step.activations == "static" and not any(scheme.activations == "static" for scheme in schemes):
            raise CoverageError(
                "no sample reached a layer whose inputs are quantized, so no range was calibrated; give samples of "
                "another kind, or set activations to dynamic"
            )
        results = self.results.values()
        if self.step.options.needs_samples and all(
            result.output_error == result.rounded_output_error for result in results
        ):
            raise CoverageError(
                f"{self.step.method} changed nothing in {counted(len(schemes), 'layer')}: no sample reached them, or "
                "rounding to nearest is as good everywhere; give samples of another kind, or set the method to "
                "round_to_nearest"
            )

    def limits(self) -> list[str]:
        """Return what the family's own library cannot do with the result, by the schemes as they stand."""
        if self.architecture.card.library_name != "transformers":
            return []
        layers = [name for name in self.schemes if not self.results or name in self.results]
        stored = [
            Stored(name, scheme, "int-quantized" if name in self._tables else scheme.format)
            for name, scheme in ((name, self.schemes[name]) for name in layers)
        ]
        mixtures = [name for name, _ in experts_in(self.module)]
        return limits(stored, [name for name in mixtures if not any(part.startswith(f"{name}.") for part in layers)])

    def _layers_in(self, block: Block) -> dict[str, Scheme]:
        """Return the layers of a block that remain to be quantized; an earlier step may have removed some."""
        modules = {f"{block.name}.{name}" if name else block.name for name, _ in block.module.named_modules()}
        return {name: scheme for name, scheme in self.schemes.items() if name in modules and name not in self.results}

    def _quantize_on_samples(self, block: Block, layers: Mapping[str, Scheme]) -> None:
        mixtures = [name for name, _ in experts_in(block.module, block.name)]
        if self.step.options.scales_inputs:
            self._scale_inputs(block, mixtures, layers)
        dense = [name for name in layers if not any(name.startswith(f"{mixture}.") for mixture in mixtures)]
        if dense:
            order = layers_by_input(block, dense)
            together = [[name for group in order.groups for name in group]]
            for names in order.groups if self.step.options.sequential else together:
                self._quantize(block, names, order)
        for mixture in mixtures:
            if schemes := {name: scheme for name, scheme in layers.items() if name.startswith(f"{mixture}.")}:
                self._quantize_experts(block, mixture, schemes)

    def _scale_inputs(self, block: Block, mixtures: Sequence[str], layers: Mapping[str, Scheme]) -> None:
        begin = time.perf_counter()
        for mixture in mixtures:
            experts = self.module.get_submodule(mixture)
            assert isinstance(experts, Experts)
            if (tokens := routed(block, mixture)) is not None:
                self._unscaled_error |= nearest_errors(experts, mixture, layers, self.step, tokens)
        search = self.step.weight_range == "mse"
        self._unscaled_error |= scale_inputs_(self.architecture, block, layers, self.step.options, search=search)
        self.seconds["scaling layers"] = self.seconds.get("scaling layers", 0.0) + time.perf_counter() - begin

    def _quantize(self, block: Block, names: Sequence[str], order: Order) -> None:
        begin = time.perf_counter()
        drifts = self._drifts(block, names, order)
        with float_weights_held(block.module):  # of the layers that are quantized already, for all samples
            statistics = observe(block, names, order, drifts=drifts)
        self.seconds["running blocks"] += time.perf_counter() - begin
        begin = time.perf_counter()
        for name in names:
            if not statistics[name].rows:
                self._quantize_unseen(name)
                continue
            self._keep_original(name, self.module.get_submodule(name))
            self.results[name], note = quantize_layer_calibrated_(
                self.module,
                name,
                self.schemes[name],
                self.step,
                statistics[name],
                self._unscaled_error.get(name),
                drifts.get(name),
            )
            self.notes.extend(note)
        self.seconds["rounding layers"] += time.perf_counter() - begin

    def _drifts(self, block: Block, names: Sequence[str], order: Order) -> dict[str, OutputDrift]:
        """Return empty sums for the layers whose outputs in the model before any change are at hand."""
        if not order.once:
            return {}  # of several outputs of one pass the last alone was kept
        layers = {name: self.module.get_submodule(name) for name in names if name in block.original_layer_outputs}
        return {name: OutputDrift(layer) for name, layer in layers.items() if isinstance(layer, nn.Linear)}

    def _quantize_experts(self, block: Block, mixture: str, schemes: Mapping[str, Scheme]) -> None:
        begin = time.perf_counter()
        with float_weights_held(block.module):
            tokens = routed(block, mixture)
        self.seconds["running blocks"] += time.perf_counter() - begin
        if tokens is None:
            for name in schemes:
                self._quantize_unseen(name)
            return
        experts = self.module.get_submodule(mixture)
        assert isinstance(experts, Experts)
        for name in schemes:
            self._keep_original(name, self.module.get_submodule(name))
        begin = time.perf_counter()
        results, notes = quantize_experts_(experts, mixture, schemes, self.step, tokens, self._unscaled_error)
        self.results |= results
        self.notes.extend(notes)
        self.seconds["rounding layers"] += time.perf_counter() - begin

    def _quantize_unseen(self, name: str) -> None:
        scheme = self.schemes[name]
        if scheme.activations == "static":
            strategy = self.architecture.layers.activation_strategy
            scheme = replace(scheme, activations="dynamic", strategy=strategy)
            self.notes.append(f"{name}: no sample reached it; its inputs are quantized dynamically")
        elif self.calibration:
            self.notes.append(f"{name}: no sample reached it; rounded to nearest")
        self.schemes[name] = scheme
        self.results[name] = quantize_layer_(self.module, name, scheme, self.step, self.calibration.float_backup)

    def _keep_original(self, name: str, layer: nn.Module) -> None:
        if self.calibration.float_backup is not None and isinstance(layer, nn.Linear):
            self.calibration.float_backup.keep(name, layer)
