"""The layers of experts that a recipe prunes, and what counts their experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from sottovoce.architecture import matches
from sottovoce.errors import PluginError, RecipeError
from sottovoce.experts.selection import kept_count
from sottovoce.experts.step import PruneExperts
from sottovoce.experts.surgery import recount_
from sottovoce.report import Kept
from sottovoce.runtime.experts import Experts, experts_in

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture, ExpertLayout
    from sottovoce.model import Model

LEFT_OUT = "experts: left as they are by the recipe"


@dataclass(frozen=True)
class ExpertLayer:
    """The experts of one layer, and how they are pruned."""

    name: str
    """Name of the experts' module in the model."""
    layout: ExpertLayout
    step: PruneExperts
    """The step as it is for this part of the model."""
    experts: int
    """How many there are."""
    keep: int
    """How many stay."""
    top_k: int = 1
    """How many a token is routed to."""

    def modules(self, module: nn.Module) -> tuple[Experts, nn.Module]:
        """The experts and their router."""
        experts = module.get_submodule(self.name)
        assert isinstance(experts, Experts)
        return experts, _router(module, self.name, self.layout)


def plan_layers(
    model: Model, architecture: Architecture, step: PruneExperts
) -> tuple[dict[str, ExpertLayer], tuple[Kept, ...]]:
    """The layers to prune, by name, and the experts that are left as they are.

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
        layout = next((one for one in layouts if matches(name, kind, one.experts)), None)
        own = step.of_part(layout.part) if layout and (layout.pruned or layout.part in step.parts) else None
        if layout is None or own is None:
            size = sum(parameter.numel() for parameter in experts.parameters())
            kept.append(Kept(name=name, parameters=size, reason=LEFT_OUT))
            continue
        owner, last = _counted(model, layout)
        if (count := getattr(owner, last)) != len(experts):
            raise PluginError(
                f"{architecture.name}: the configuration's {layout.count} is {count}, and {name!r} has {len(experts)} "
                "experts; the layout or the model is wrong"
            )
        top_k = getattr(_router(model.module, name, layout), "top_k", 1)
        # With a threshold all stay until their use was counted.
        stay = count if own.keep is None else kept_count(own.keep, count, top_k)
        layers[name] = ExpertLayer(name, layout, own, count, stay, int(top_k))
    found = {layer.layout.part for layer in layers.values()}
    missing = sorted(part for part, budget in step.parts.items() if budget is not None and part not in found)
    if missing or not (layers or kept):
        which = f"the part {missing[0]!r} of this model" if missing else architecture.name
        raise RecipeError(f"{step.name}: {which} has no experts; leave {'it' if missing else 'the step'} out")
    return layers, tuple(kept)


def count_anew_(model: Model, layer: ExpertLayer) -> None:
    """Tell the configuration, and every module around the experts that counts them, how many there are now."""
    owner, last = _counted(model, layer.layout)
    setattr(owner, last, layer.keep)
    for name in _above(layer.name):
        recount_(model.module.get_submodule(name), layer.experts, layer.keep)


def _counted(model: Model, layout: ExpertLayout) -> tuple[Any, str]:
    *way, last = layout.count.split(".")
    owner = getattr(model.native, "config", None)
    for name in way:
        owner = getattr(owner, name, None)
    if not hasattr(owner, last):
        raise PluginError(f"{model.architecture.name}: the configuration has no {layout.count!r}, as a layout says")
    return owner, last


def _router(module: nn.Module, name: str, layout: ExpertLayout) -> nn.Module:
    router = getattr(module.get_submodule(name.rpartition(".")[0]), layout.router, None)
    if not isinstance(router, nn.Module):
        raise PluginError(f"no router {layout.router!r} lies beside {name!r}, as a layout says")
    return router


def _above(name: str) -> Iterator[str]:
    while name:
        name = name.rpartition(".")[0]
        yield name
