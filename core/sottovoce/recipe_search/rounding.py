"""Layers rounded for every choice, on the inputs that they have in the float model: one pass for all choices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from sottovoce.calibration.block_step import BlockStep
from sottovoce.calibration.observers import layers_by_input, observe
from sottovoce.calibration.routing import routed
from sottovoce.quantization.calibrated import quantize_layer_calibrated_
from sottovoce.quantization.data_free import LayerResult, quantize_layer_
from sottovoce.quantization.experts import quantize_experts_
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Scheme
from sottovoce.recipe_search.choices import FLOAT, Choice, anchors
from sottovoce.report import StepReport
from sottovoce.runtime.experts import Experts

if TYPE_CHECKING:
    from sottovoce.calibration.blocks import Block
    from sottovoce.calibration.input_statistics import InputStatistics
    from sottovoce.model import Model
    from sottovoce.recipe_search.units import Layer, Unit

Rounding = Callable[[Choice, Quantize], tuple[dict[str, nn.Module], list[LayerResult]]]
"""Function that returns a unit's layers, stored as a choice says and rounded by a step, with their errors."""


class RoundUnits(BlockStep):
    """Observer that rounds the layers of every block for several choices, and leaves the model as it is.

    The choices that are measured are rounded by the step's method. Of the others only the error is needed, in
    comparison with that of the measured ones: by rounding to nearest, for both.
    """

    name = "rounding"
    only_observes = True

    def __init__(
        self,
        model: Model,
        units: Sequence[Unit],
        layers: Mapping[str, Layer],
        choices: Mapping[str, tuple[Choice, ...]],
        step: Quantize,
    ) -> None:
        """Prepare the work.

        Args:
            model: The model.
            units: Units to round.
            layers: Sizes of their layers.
            choices: By unit's name, the choices to round it for.
            step: The recipe's step, which has the method.
        """
        self._module, self._units, self._choices = model.module, units, choices
        self._layers, self._strategy = layers, model.architecture.layers.activation_strategy
        self._step = step
        self._nearest = Quantize.model_validate({"bits": step.bits, "weight_range": step.weight_range})
        self.rounded: dict[tuple[str, str], Mapping[str, nn.Module]] = {}
        """Layers by name, by the names of the unit and the choice."""
        self.errors: dict[str, dict[str, float]] = {}
        """Squared errors of the outputs when rounded to nearest, as shares of their power, by unit and choice."""

    @property
    def layers(self) -> Sequence[str]:
        """Layers of all units."""
        return list(self._layers)

    def process_block(self, block: Block) -> dict[str, Any]:
        """Round the units of a block."""
        units = [unit for unit in self._units if all(f"{name}.".startswith(f"{block.name}.") for name in unit.layers)]
        dense = [
            name for unit in units if not unit.is_mixture for name in unit.layers if not self._layers[name].is_table
        ]
        statistics: Mapping[str, InputStatistics] = {}
        if dense and block.sample_threads:
            statistics = observe(block, dense, layers_by_input(block, dense))
        for unit in units:
            rounding = self._experts(block, unit) if unit.is_mixture else self._dense(unit, statistics)
            self._round(unit, rounding)
        return {}

    def _round(self, unit: Unit, rounding: Rounding) -> None:
        choices = self._choices[unit.name]
        errors = self.errors.setdefault(unit.name, {})
        for choice in choices:
            if choice is FLOAT:
                continue
            if choice in anchors(choices):
                self.rounded[unit.name, choice.name], results = rounding(choice, self._step)
            else:
                _, results = rounding(choice, self._nearest)
            errors[choice.name] = _error(results)

    def _scheme(self, name: str, choice: Choice) -> Scheme:
        layer = self._layers[name]
        scheme = choice.scheme(layer.width, self._strategy, layer.is_weight_only)
        assert scheme is not None
        return scheme

    def _dense(self, unit: Unit, statistics: Mapping[str, InputStatistics]) -> Rounding:
        def rounding(choice: Choice, step: Quantize) -> tuple[dict[str, nn.Module], list[LayerResult]]:
            layers: dict[str, nn.Module] = {}
            results = []
            for name in unit.layers:
                holder = nn.ModuleDict({"layer": self._module.get_submodule(name)})
                scheme, inputs = self._scheme(name, choice), statistics.get(name)
                if inputs is None or not inputs.rows:
                    results.append(quantize_layer_(holder, "layer", scheme, step))
                else:
                    results.append(quantize_layer_calibrated_(holder, "layer", scheme, step, inputs)[0])
                layers[name] = holder["layer"]
            return layers, results

        return rounding

    def _experts(self, block: Block, unit: Unit) -> Rounding:
        experts = self._module.get_submodule(unit.name)
        assert isinstance(experts, Experts)
        tokens = routed(block, unit.name) if block.sample_threads else None
        inner = {name: name.removeprefix(f"{unit.name}.") for name in unit.layers}

        def rounding(choice: Choice, step: Quantize) -> tuple[dict[str, nn.Module], list[LayerResult]]:
            schemes = {name: self._scheme(name, choice) for name in unit.layers}
            # Modules are copied, their weights are not.
            memo: dict[int, Any] = {id(parameter): parameter for parameter in experts.parameters()}
            copied = copy.deepcopy(experts, memo)
            if tokens is None:
                results = [quantize_layer_(copied, inner[name], schemes[name], step) for name in unit.layers]
            else:
                results = list(quantize_experts_(copied, unit.name, schemes, step, tokens)[0].values())
            return {name: copied.get_submodule(inner[name]) for name in unit.layers}, results

        return rounding

    def restore_block(self, block: str, facts: Mapping[str, Any]) -> None:
        """Do nothing: an observer keeps no block."""

    def on_end(self) -> StepReport:
        """Report nothing: the model is as it was."""
        return StepReport(step={})


def _error(results: Iterable[LayerResult]) -> float:
    """Return the mean error; that of the weights where no sample reached the layers."""
    errors = [
        result.rounded_output_error if result.rounded_output_error is not None else 10 ** (-(result.snr_db or 0) / 10)
        for result in results
    ]
    return sum(errors) / len(errors)
