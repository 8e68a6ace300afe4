"""Recipes by which ``pruned_table.py`` prunes the bundled models."""

from __future__ import annotations

from typing import Any

from sottovoce.recipe.presets import PRESETS

PARAFORMER, ALIGNER, OMNI = "tiny-paraformer", "tiny-aligner", "tiny-omni"


def _width(keep: float, score: str = "obs") -> dict[str, Any]:
    # Magnitude is what is pruned by where nothing is fitted.
    return {"step": "prune_width", "keep": keep, "score": score, "refit": score != "magnitude"}


def _weights(method: str) -> dict[str, Any]:
    return {"step": "prune_weights", "method": method, "sparsity": 0.5}


def _without_two_layers(absorb: bool) -> dict[str, Any]:
    return {"step": "prune_layers", "layers": ["encoder.encoders.2", "encoder.encoders.3"], "absorb": absorb}


_SMALLEST = [
    # After the width: what absorbs the layers then is what stays.
    _without_two_layers(absorb=True),
    *PRESETS["int4"].to_dict()["steps"],
    {"step": "cast"},
]


RECIPES: dict[str, dict[str, list[dict[str, Any]]]] = {
    PARAFORMER: {
        "half of the hidden units": [_width(0.5)],
        "half by `activation`": [_width(0.5, "activation")],
        "half by `magnitude`, no refit": [_width(0.5, "magnitude")],
        "30 % of the hidden units": [_width(0.3)],
        "30 % by `activation`": [_width(0.3, "activation")],
        "30 % by `magnitude`, no refit": [_width(0.3, "magnitude")],
        "without encoder layers 2 and 3, absorbed": [_without_two_layers(absorb=True)],
        "without encoder layers 2 and 3": [_without_two_layers(absorb=False)],
        "half of the heads": [{"step": "prune_heads", "keep": 0.5}],
        "half of the hidden units, without two layers, `int4`, floats in 16 bits": [
            _width(0.5),
            *_SMALLEST,
        ],
        "the same with 40 % of the encoder's hidden units": [
            {"step": "prune_width", "encoder": 0.4, "decoder": 0.5},
            *_SMALLEST,
        ],
        "half of the single weights by `sparsegpt`": [_weights("sparsegpt")],
        "half of the single weights by `wanda`": [_weights("wanda")],
        "half of the single weights by `magnitude`": [_weights("magnitude")],
    },
    ALIGNER: {"half of the hidden units of tower and text": [_width(0.5)]},
    OMNI: {"half of the hidden units of every expert": [{"step": "prune_width", "thinker": 0.5}]},
}
"""Steps that are measured, by the model and the name of their row."""
TITLES = [title for recipes in RECIPES.values() for title in recipes]
