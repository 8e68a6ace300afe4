"""The ordinary recipe that says what was chosen, by the layers' exact names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sottovoce.quantization.cast_step import Cast
from sottovoce.recipe.recipe import Recipe
from sottovoce.recipe_search.choices import FLOAT, INT8, Choice
from sottovoce.recipe_search.units import Layer, Unit

STEP: Mapping[str, Any] = {"step": "quantize", "bits": 8, "method": "gptq", "weight_range": "mse"}
"""Settings of the step that quantizes, which all layers share."""


def to_recipe(
    units: Sequence[Unit],
    layers: Mapping[str, Layer],
    chosen: Mapping[str, Choice],
    embeddings: str | None,
    steps: Sequence[Mapping[str, Any]] = (),
    cast: Cast | None = None,
) -> Recipe:
    """Return the recipe of a mix.

    Args:
        units: Units of the model.
        layers: Sizes of their layers once the steps before were applied; a layer that is not here was removed.
        chosen: By unit's name, its choice; a unit without one was removed.
        embeddings: Setting for embedding tables.
        steps: Steps before the one that quantizes, in the form of a recipe file.
        cast: Step that stores the floats that are left.
    """
    ignore: list[str] = []
    overrides: dict[str, Any] = {}
    rounds_inputs = any(choice is INT8 for choice in chosen.values())
    for unit in units:
        names = [name for name in unit.layers if name in layers]
        choice = chosen.get(unit.name)
        if not names or choice is None:
            continue
        if choice is FLOAT:
            ignore.append(_pattern(unit, names))
        elif not layers[names[0]].is_table and not _is_common(layers[names[0]], choice, rounds_inputs):
            overrides |= _overrides(unit, names, layers, choice)
    quantize = dict(STEP) | ({} if rounds_inputs else {"activations": "none"})
    quantize |= {"embeddings": embeddings} if embeddings else {}
    quantize |= {"ignore": ignore} if ignore else {}
    quantize |= {"overrides": overrides} if overrides else {}
    is_quantized = any(choice is not FLOAT for choice in chosen.values())
    form = [*map(dict, steps), *([quantize | {"min_coverage": 0.0}] if is_quantized else [])]
    form += [] if cast is None else [cast.to_dict()]
    return Recipe.from_dict({"steps": form}, title="search")


def _is_common(layer: Layer, choice: Choice, rounds_inputs: bool) -> bool:
    """Return true if the step stores a layer so without an override."""
    if choice is INT8:
        return True
    return choice.bits == 8 and (layer.is_weight_only or not rounds_inputs)


def _overrides(unit: Unit, names: Sequence[str], layers: Mapping[str, Layer], choice: Choice) -> dict[str, Any]:
    overrides = {
        name: override.model_dump(exclude_none=True)
        for name in names
        if (override := choice.override(layers[name].inputs, layers[name].is_weight_only)) is not None
    }
    if unit.is_mixture and all(override == overrides[names[0]] for override in overrides.values()):
        return {_pattern(unit, names): overrides[names[0]]}
    return overrides


def _pattern(unit: Unit, names: Sequence[str]) -> str:
    """Return a pattern of all layers of a unit: its only name, or an expression."""
    if len(names) == 1:
        return names[0]
    if unit.is_mixture:
        return rf"re:{re.escape(unit.name)}\.\d+\..*"
    parents = {name.rpartition(".")[0] for name in names}
    children = "|".join(re.escape(name.rpartition(".")[2]) for name in names)
    return rf"re:{re.escape(parents.pop())}\.({children})"
