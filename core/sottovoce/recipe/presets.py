"""Presets: recipes with a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sottovoce.recipe.recipe import Recipe

_SHORT_DISTILLATION = {"step": "distill", "optional": True, "epochs": 1.0, "degrade": 0.5, "evaluations": 5}
_INT4 = {"step": "quantize", "bits": 4, "weight_range": "mse"}


def _preset(name: str, *steps: dict[str, Any]) -> Recipe:
    return Recipe.from_dict({"steps": list(steps)}, title=name)


PRESETS: Mapping[str, Recipe] = {
    recipe.title or "": recipe
    for recipe in (
        _preset("int8", {"step": "quantize", "method": "squant"}),
        _preset("int8-gptq", {"step": "quantize", "method": "gptq"}),
        _preset("int8-static", {"step": "quantize", "method": "squant", "activations": "static"}),
        _preset("int8-weight", {"step": "quantize", "method": "squant", "activations": "none"}),
        _preset("int4", {**_INT4, "method": "gptq", "embeddings": "auto"}),
        _preset("int4-awq", {**_INT4, "method": "awq", "embeddings": "auto"}),
        _preset("fp8", {"step": "quantize", "type": "float"}),
    )
}
"""Core's recipes, for every family; a plugin adds its own by ``Architecture.presets``."""

WIDTH_PRESETS: Mapping[str, Recipe] = {
    recipe.title or "": recipe
    for recipe in (
        _preset(
            "edge", {"step": "prune_width", "keep": 0.5}, _SHORT_DISTILLATION, {"step": "quantize", "method": "squant"}
        ),
        _preset(
            "mobile",
            {"step": "prune_width", "keep": 0.75},
            _SHORT_DISTILLATION,
            {"step": "quantize", "method": "squant", "activations": "static"},
        ),
    )
}
"""Core's recipes for families that state hidden units to prune."""

STUDENT_PRESETS: Mapping[str, Recipe] = {
    recipe.title or "": recipe
    for recipe in (
        _preset(
            "cloud",
            {"step": "shrink", "layers": 0.5, "width": 0.5},
            {"step": "distill", "must_improve": True, "epochs": 5.0, "degrade": 0.5, "average": 0.99},
        ),
    )
}
"""Core's recipes for families that state layers and hidden units to prune, and how they are trained."""

HEAD_PRESETS: Mapping[str, Recipe] = {
    recipe.title or "": recipe
    for recipe in (_preset("joint", {"step": "prune_heads", "keep": 0.5}, {"step": "quantize", "method": "squant"}),)
}
"""Core's recipes for families that state attention heads to prune."""

EXPERT_PRESETS: Mapping[str, Recipe] = {
    recipe.title or "": recipe
    for recipe in (
        _preset("reap25", {"step": "prune_experts", "keep": 0.75}),
        _preset("reap50", {"step": "prune_experts", "keep": 0.5}),
        _preset(
            "three-stage",
            {"step": "prune_experts", "keep": 0.6},
            {"step": "distill", "must_improve": True, "learning_rate": 1e-4},
            {**_INT4, "method": "gptq"},
        ),
        _preset("reap50-int4", {"step": "prune_experts", "keep": 0.5}, {**_INT4, "method": "gptq"}),
    )
}
"""Core's recipes for mixtures of experts: a quarter or half of the experts are pruned, by REAP.

``three-stage`` prunes 40 %, distills the rest and quantizes it.
"""
