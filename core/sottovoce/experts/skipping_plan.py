"""Layers whose experts a recipe lets tokens skip at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.architecture import ExpertLayout
from sottovoce.errors import PluginError, RecipeError
from sottovoce.experts.layers import LEFT_OUT
from sottovoce.recipe.pattern import matches
from sottovoce.report import Kept
from sottovoce.runtime.expert_skipping import settings_of
from sottovoce.runtime.experts import experts_in

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.experts.step import SkipExperts
    from sottovoce.model import Model


def plan_skipping(
    model: Model, architecture: Architecture, step: SkipExperts
) -> tuple[dict[str, ExpertLayout], tuple[Kept, ...]]:
    """Return the layers whose experts may be skipped, by name, and the experts that always run.

    Raises:
        RecipeError: The model has no experts, or none of a part that the step names, or its configuration cannot tell
            the step's parts from others.
        PluginError: A layout does not fit the model.
    """
    parts = _skipped_parts(architecture, step)
    layers: dict[str, ExpertLayout] = {}
    kept: list[Kept] = []
    others: list[ExpertLayout] = []
    for name, experts in experts_in(model.module):
        kind = type(experts).__name__
        layout = next((layout for layout in architecture.experts if matches(name, kind, layout.experts)), None)
        if layout is not None and layout.part in parts:
            layers[name] = layout
            continue
        size = sum(parameter.numel() for parameter in experts.parameters())
        kept.append(Kept(name=name, parameters=size, reason=LEFT_OUT))
        others.extend([layout] if layout else [])
    skipped = {layout.part for layout in layers.values()}
    missing = [part for part in step.parts or () if part not in skipped]
    if missing or not layers:
        which = f"the part {missing[0]!r} of this model" if missing else architecture.name
        raise RecipeError(f"{step.name}: {which} has no experts; leave {'it' if missing else 'the step'} out")
    _check_settings(model, architecture, list(layers.values()), others)
    return layers, tuple(kept)


def _skipped_parts(architecture: Architecture, step: SkipExperts) -> set[str]:
    if step.parts is None:
        return {layout.part for layout in architecture.experts if layout.pruned}
    known = [layout.part for layout in architecture.experts]
    if unknown := [part for part in step.parts if part not in known]:
        raise RecipeError(
            f"{step.name}: no part {unknown[0]!r} has experts; those that have are {', '.join(known) or 'none'}"
        )
    return set(step.parts)


def _check_settings(
    model: Model, architecture: Architecture, chosen: list[ExpertLayout], others: list[ExpertLayout]
) -> None:
    config = getattr(model.native, "config", None)
    for layout in chosen:
        settings = settings_of(config, layout)
        if not hasattr(settings, layout.count.rpartition(".")[2]):
            raise PluginError(
                f"{architecture.name}: the configuration has no {layout.count!r}, which a layout names; "
                "correct the plugin's layout"
            )
        if shared := [other.part for other in others if settings_of(config, other) is settings]:
            raise RecipeError(
                f"skip_experts: the parts {layout.part} and {shared[0]} share their settings; name both or neither"
            )
