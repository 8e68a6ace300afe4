"""Presets: recipes with a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sottovoce.recipe.recipe import Recipe

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture

_SHORT_DISTILLATION = {"step": "distill", "optional": True, "epochs": 1.0, "degrade": 0.5, "evaluations": 5}
_INT4 = {"step": "quantize", "bits": 4, "weight_range": "mse"}


def _named(**presets: tuple[str, list[dict[str, Any]]]) -> Mapping[str, Recipe]:
    """Return recipes by name, of descriptions and steps; an underscore in a name stands for a hyphen."""
    names = {name: name.replace("_", "-") for name in presets}
    return {
        names[name]: Recipe.from_dict({"description": description, "steps": steps}, title=names[name])
        for name, (description, steps) in presets.items()
    }


PRESETS = _named(
    int8=("the model runs on a CPU: the first to try", [{"step": "quantize", "method": "squant"}]),
    int8_gptq=("int8 costs accuracy, and there are samples", [{"step": "quantize", "method": "gptq"}]),
    int8_static=(
        "the engine takes ranges of inputs that are fixed",
        [{"step": "quantize", "method": "squant", "activations": "static"}],
    ),
    int8_weight=(
        "the model runs on a GPU, or inputs must not be rounded",
        [{"step": "quantize", "method": "squant", "activations": "none"}],
    ),
    int4=(
        "memory or disk is short, and there are samples",
        [{**_INT4, "method": "gptaq", "embeddings": "auto"}],
    ),
    int4_awq=(
        "int4 is to be compared with AWQ",
        [{**_INT4, "method": "awq", "embeddings": "auto"}],
    ),
    fp8=("the GPU multiplies 8-bit floats", [{"step": "quantize", "type": "float"}]),
)
"""Core's recipes, for every family; a plugin adds its own by ``Architecture.presets``."""

WIDTH_PRESETS = _named(
    edge=(
        "the machine is small: half of the hidden units",
        [{"step": "prune_width", "keep": 0.5}, _SHORT_DISTILLATION, {"step": "quantize", "method": "squant"}],
    ),
    mobile=(
        "the model runs on a phone: three quarters of the hidden units",
        [
            {"step": "prune_width", "keep": 0.75},
            _SHORT_DISTILLATION,
            {"step": "quantize", "method": "squant", "activations": "static"},
        ],
    ),
)
"""Core's recipes for families that state hidden units to prune."""

STUDENT_PRESETS = _named(
    cloud=(
        "there is time to train a small student of the model",
        [
            {"step": "shrink", "layers": 0.5, "width": 0.5},
            {"step": "distill", "must_improve": True, "epochs": 5.0, "degrade": 0.5, "average": 0.99},
        ],
    ),
)
"""Core's recipes for families that state layers and hidden units to prune, and how they are trained."""

HEAD_PRESETS = _named(
    joint=(
        "attention takes much of the time: half of the heads",
        [{"step": "prune_heads", "keep": 0.5}, {"step": "quantize", "method": "squant"}],
    ),
)
"""Core's recipes for families that state attention heads to prune."""

EXPERT_PRESETS = _named(
    reap25=("a quarter of the experts is to go", [{"step": "prune_experts", "keep": 0.75}]),
    reap50=("half of the experts are to go", [{"step": "prune_experts", "keep": 0.5}]),
    three_stage=(
        "there is time to train, and the model is to be smallest",
        [
            {"step": "prune_experts", "keep": 0.6},
            {"step": "distill", "must_improve": True, "learning_rate": 1e-4},
            {**_INT4, "method": "gptq"},
        ],
    ),
    reap50_int4=(
        "the model must fit one GPU, without training",
        [{"step": "prune_experts", "keep": 0.5}, {**_INT4, "method": "gptq"}],
    ),
)
"""Core's recipes for mixtures of experts: a quarter or half of the experts are pruned, by REAP.

``three-stage`` prunes 40 %, distills the rest and quantizes it.
"""


def can_be_narrowed(family: Architecture) -> bool:
    """Return whether a family states hidden units to prune."""
    return any(width.pruned for width in family.shape.widths)


def can_lose_heads(family: Architecture) -> bool:
    """Return whether a family states attention heads to prune."""
    return any(heads.pruned for heads in family.shape.heads)


def can_be_a_student(family: Architecture) -> bool:
    """Return whether a smaller model of a family can be made and trained here."""
    is_shallower = any(depth.pruned for depth in family.shape.depths)
    return family.training is not None and can_be_narrowed(family) and is_shallower


CONDITIONS: tuple[tuple[Callable[[Architecture], bool], Mapping[str, Recipe]], ...] = (
    (lambda family: True, PRESETS),
    (can_be_narrowed, WIDTH_PRESETS),
    (can_be_a_student, STUDENT_PRESETS),
    (can_lose_heads, HEAD_PRESETS),
    (lambda family: bool(family.experts), EXPERT_PRESETS),
)
"""Core's recipes, each kind with the families that it is for."""
