"""Attentions whose heads a recipe prunes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.errors import PluginError, RecipeError
from sottovoce.pruning.parts import float_linear, kept_number, modules_of, parts_to_prune, setting
from sottovoce.pruning.slicing import keep_groups_of_columns_, keep_groups_of_rows_
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.architecture import Architecture, Heads
    from sottovoce.model import Model
    from sottovoce.pruning.step import PruneHeads


@dataclass(frozen=True)
class HeadsLayer:
    """An attention, and the plan to prune its heads; a group is what can be removed at once."""

    name: str
    heads: Heads
    groups: int
    """Number of groups before."""
    keep: int
    """Number of groups that stay."""
    size: int
    """Columns of the output projection that belong to a group."""

    @property
    def output_name(self) -> str:
        """Name of the output projection."""
        return f"{self.name}.{self.heads.output}"

    def output(self, root: nn.Module) -> nn.Linear:
        """Return the output projection."""
        return float_linear(root, self.output_name)

    def slice_(self, model: Model, kept: Sequence[int]) -> int:
        """Remove all groups but ``kept``; return the number of parameters that were removed."""
        root = model.module
        before = _parameter_count(root.get_submodule(self.name))
        if self.heads.remove is not None:
            self.heads.remove(model, self.name, kept)
        else:
            for name in self.heads.rows:
                keep_groups_of_rows_(float_linear(root, f"{self.name}.{name}"), kept, self.groups)
            keep_groups_of_columns_(self.output(root), kept, self.groups)
        return before - _parameter_count(root.get_submodule(self.name))


def plan_layers(model: Model, architecture: Architecture, step: PruneHeads) -> list[HeadsLayer]:
    """Return the attentions to prune, in the model's order.

    Raises:
        RecipeError: The family has no such part, more groups are to stay than there are, none would be removed, or the
            model's own class takes no such number.
        CoverageError: A layer is quantized already.
        PluginError: The family's shape does not fit the model.
    """
    layers: dict[str, HeadsLayer] = {}
    for heads, amount in parts_to_prune(architecture.shape.heads, step, step.name, architecture.name):
        names = modules_of(model.module, heads.modules)
        if not names and heads.part in step.parts:
            raise RecipeError(f"{step.name}: this model has no {heads.part!r}; leave it out")
        of_part = [_layer(model, heads, name, amount) for name in names]
        counts = {(layer.groups, layer.keep) for layer in of_part}
        if len(counts) > 1:
            raise PluginError(f"{architecture.name}: the attentions of {heads.part!r} have {sorted(counts)} heads")
        for layer in of_part[:1]:
            _check_settings(model, layer)
        layers |= {layer.name: layer for layer in of_part}
    if not layers:
        parts = ", ".join(part.part for part in architecture.shape.heads)
        raise RecipeError(
            f"{step.name}: no attention of {architecture.name} is left to prune; name a part with an amount: {parts}"
        )
    if all(layer.keep == layer.groups for layer in layers.values()):
        raise RecipeError(f"{step.name}: all heads would stay; keep fewer, or leave the step out")
    order = [name for name, _ in model.module.named_modules() if name in layers]
    return [layers[name] for name in order if layers[name].keep < layers[name].groups]


def _layer(model: Model, heads: Heads, name: str, amount: int | float) -> HeadsLayer:
    attention = model.module.get_submodule(name)
    groups, output = heads.groups(attention), float_linear(model.module, f"{name}.{heads.output}")
    for row_name in heads.rows:
        rows = float_linear(model.module, f"{name}.{row_name}").out_features
        if rows % groups:
            raise PluginError(f"{name}: {row_name} has {counted(rows, 'output')}, not divisible into {groups} groups")
    if output.in_features % groups:
        raise PluginError(
            f"{name}: {heads.output} has {counted(output.in_features, 'input')}, not divisible into {groups} groups"
        )
    size = output.in_features // groups
    groups = model.planned_inputs.get(f"{name}.{heads.output}", output.in_features) // size
    return HeadsLayer(name, heads, groups, kept_number(amount, groups, f"prune_heads, {heads.part}"), size)


def _check_settings(model: Model, layer: HeadsLayer) -> None:
    """Refuse a number of groups that a setting which counts something coarser cannot express."""
    groups = layer.heads.groups(model.module.get_submodule(layer.name))
    for key in layer.heads.keys:
        value = setting(model, key)
        if not isinstance(value, int):
            raise PluginError(f"{model.architecture.name}: {key} is {value!r}, not a number")
        if value * layer.keep % groups:
            raise RecipeError(
                f"prune_heads, {layer.heads.part}: with {layer.keep} of {counted(groups, 'head')}, {key} would be "
                f"{value * layer.keep / groups:g}; keep a multiple of {groups // math.gcd(value, groups)}"
            )


def _parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
