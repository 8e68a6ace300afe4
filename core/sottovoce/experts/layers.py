"""Layers of experts that a recipe prunes, and the modules and settings that count their experts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sottovoce.calibration.blocks import parent_names
from sottovoce.errors import PluginError, RecipeError
from sottovoce.experts.removal import update_expert_count_
from sottovoce.experts.selection import kept_count
from sottovoce.experts.step import PruneExperts
from sottovoce.recipe.pattern import matches
from sottovoce.report import Kept
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Experts, experts_in

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture, ExpertLayout
    from sottovoce.model import Model

LEFT_OUT = "experts: left as they are by the recipe"


@dataclass(frozen=True)
class ExpertLayer:
    """Experts of one layer, and the plan to prune them."""

    name: str
    """Name of the experts' module in the model."""
    layout: ExpertLayout
    step: PruneExperts
    """The step as it is for this part of the model."""
    experts: int
    """Number of experts before."""
    keep: int
    """Number of experts that stay."""
    top_k: int = 1
    """Number of experts that a token is routed to."""

    def modules(self, module: nn.Module) -> tuple[Experts, nn.Module]:
        """Return the experts and their router."""
        experts = module.get_submodule(self.name)
        assert isinstance(experts, Experts)
        return experts, _router(module, self.name, self.layout)


def plan_layers(
    model: Model, architecture: Architecture, step: PruneExperts
) -> tuple[dict[str, ExpertLayer], tuple[Kept, ...]]:
    """Return the layers to prune, by name, and the experts that are left as they are.

    Raises:
        RecipeError: The model has no experts, or none of a part that the step names, or fewer would stay than a token
            is routed to, or more than there are.
        PluginError: A layout does not fit the model.
    """
    layouts = architecture.experts
    if unknown := sorted(set(step.parts) - {layout.part for layout in layouts}):
        known = ", ".join(layout.part for layout in layouts) or "none"
        raise RecipeError(f"{step.name}: no part {unknown[0]!r} has experts; those that have are {known}")
    layers: dict[str, ExpertLayer] = {}
    kept: list[Kept] = []
    for name, experts in experts_in(model.module):
        kind = type(experts).__name__
        layout = next((layout for layout in layouts if matches(name, kind, layout.experts)), None)
        part_step = step.of_part(layout.part) if layout and (layout.pruned or layout.part in step.parts) else None
        if layout is None or part_step is None:
            size = sum(parameter.numel() for parameter in experts.parameters())
            kept.append(Kept(name=name, parameters=size, reason=LEFT_OUT))
            continue
        settings, key = _count_setting(model, layout)
        if (count := getattr(settings, key)) != len(experts):
            raise PluginError(
                f"{architecture.name}: the configuration's {layout.count} is {count}, and {name!r} has "
                f"{counted(len(experts), 'expert')}; the layout or the model is wrong"
            )
        top_k = getattr(_router(model.module, name, layout), "top_k", 1)
        # With a threshold, all stay until their use is counted.
        keep = count if part_step.keep is None else kept_count(part_step.keep, count, top_k)
        layers[name] = ExpertLayer(name, layout, part_step, count, keep, int(top_k))
    parts = {layer.layout.part for layer in layers.values()}
    missing = sorted(part for part, budget in step.parts.items() if budget is not None and part not in parts)
    if missing or not (layers or kept):
        which = f"the part {missing[0]!r} of this model" if missing else architecture.name
        raise RecipeError(f"{step.name}: {which} has no experts; leave {'it' if missing else 'the step'} out")
    return layers, tuple(kept)


def update_configured_count_(model: Model, layer: ExpertLayer) -> None:
    """Write the new number of experts into the configuration and every parent module that counts them.

    Raises:
        PluginError: The configuration lacks the layout's setting.
    """
    settings, key = _count_setting(model, layer.layout)
    setattr(settings, key, layer.keep)
    for name in (*parent_names(layer.name), ""):  # the root too
        update_expert_count_(model.module.get_submodule(name), layer.experts, layer.keep)


def names_in_block(names: Iterable[str], block: str) -> list[str]:
    """Return those of the modules ``names`` that are the block or lie in it."""
    return [name for name in names if f"{name}.".startswith(f"{block}.")]


def _count_setting(model: Model, layout: ExpertLayout) -> tuple[Any, str]:
    """Return the part of the configuration that holds the number of experts, and the key there."""
    *path, key = layout.count.split(".")
    settings = getattr(model.native, "config", None)
    for name in path:
        settings = getattr(settings, name, None)
    if not hasattr(settings, key):
        raise PluginError(
            f"{model.architecture.name}: the configuration has no {layout.count!r}, which a layout names; "
            "correct the plugin's layout"
        )
    return settings, key


def _router(module: nn.Module, name: str, layout: ExpertLayout) -> nn.Module:
    router = getattr(module.get_submodule(name.rpartition(".")[0]), layout.router, None)
    if not isinstance(router, nn.Module):
        raise PluginError(
            f"{name!r} has no router {layout.router!r} next to it, which a layout names; correct the plugin's layout"
        )
    return router
