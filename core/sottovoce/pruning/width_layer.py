"""Modules whose hidden units a recipe prunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.errors import CoverageError, PluginError, RecipeError
from sottovoce.pruning.parts import float_linear, kept_number, modules_of, parts_to_prune
from sottovoce.pruning.slicing import keep_channels_, keep_columns_, keep_rows_
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Experts

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.architecture import Architecture, Width
    from sottovoce.model import Model
    from sottovoce.pruning.step import PruneWidth


@dataclass(frozen=True)
class WidthLayer:
    """A module with hidden units, and the plan to prune them."""

    name: str
    width: Width
    units: int
    """Number of units before."""
    keep: int
    """Number of units that stay."""
    is_expert: bool
    """If true, only the tokens that are routed to it reach it."""

    @property
    def output(self) -> str:
        """Name of the layer that reads the units."""
        return f"{self.name}.{self.width.output}"

    @property
    def drifts_alone(self) -> bool:
        """True if the layer makes up for the drift of its own outputs, since hidden states change further behind it."""
        return not self.width.is_last and not self.is_expert

    def linear(self, root: nn.Module, name: str) -> nn.Linear:
        """Return a linear layer of the module."""
        return float_linear(root, f"{self.name}.{name}")

    def norm(self, root: nn.Module) -> nn.Module | None:
        """Return the normalization over the units, if there is one."""
        return root.get_submodule(f"{self.name}.{self.width.norm}") if self.width.norm is not None else None

    def is_meta(self, root: nn.Module) -> bool:
        """Return true if the layer has no data."""
        return self.linear(root, self.width.output).weight.is_meta

    def slice_(self, root: nn.Module, kept: Sequence[int]) -> int:
        """Remove all units but ``kept``; return the number of parameters that were removed."""
        before = _parameter_count(root.get_submodule(self.name))
        for name in self.width.inputs:
            keep_rows_(self.linear(root, name), kept)
        if (norm := self.norm(root)) is not None:
            keep_channels_(norm, kept)
        keep_columns_(self.linear(root, self.width.output), kept)
        return before - _parameter_count(root.get_submodule(self.name))


def plan_layers(model: Model, architecture: Architecture, step: PruneWidth) -> list[WidthLayer]:
    """Return the modules to prune, in the model's order.

    Raises:
        RecipeError: The family has no such part, more units are to stay than there are, or none would be removed.
        CoverageError: A layer is quantized already.
        PluginError: The family's shape does not fit the model.
    """
    layers: dict[str, WidthLayer] = {}
    for width, amount in parts_to_prune(architecture.shape.widths, step, step.name, architecture.name):
        names = modules_of(model.module, width.modules)
        if not names and width.part in step.parts:
            raise RecipeError(f"{step.name}: this model has no {width.part!r}; leave it out")
        for name in names:
            layers[name] = _layer(model, width, name, amount)
        units = {(layer.units, layer.keep) for layer in layers.values() if layer.width is width}
        if len(units) > 1:
            raise PluginError(f"{architecture.name}: the layers of {width.part!r} have {sorted(units)} units")
    if not layers:
        parts = ", ".join(part.part for part in architecture.shape.widths)
        raise RecipeError(
            f"{step.name}: no layer of {architecture.name} is left to prune; name a part with an amount: {parts}"
        )
    if all(layer.keep == layer.units for layer in layers.values()):
        raise RecipeError(f"{step.name}: all units would stay; keep fewer, or leave the step out")
    order = [name for name, _ in model.module.named_modules() if name in layers]
    return [layers[name] for name in order if layers[name].keep < layers[name].units]


def _layer(model: Model, width: Width, name: str, amount: int | float) -> WidthLayer:
    output = float_linear(model.module, f"{name}.{width.output}")
    units = model.planned_inputs.get(f"{name}.{width.output}", output.in_features)
    for input_name in width.inputs:
        rows = float_linear(model.module, f"{name}.{input_name}").out_features
        if rows != output.in_features:
            raise CoverageError(
                f"{name}: {input_name} has {counted(rows, 'output')}, and {width.output} "
                f"{counted(output.in_features, 'input')}"
            )
    keep = kept_number(amount, units, f"prune_width, {width.part}", is_rounded=True)
    is_expert = isinstance(model.module.get_submodule(name.rpartition(".")[0]), Experts)
    return WidthLayer(name, width, units, keep, is_expert)


def _parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
