"""Recipes by which ``distilled_table.py`` distills the bundled models."""

from __future__ import annotations

from typing import Any

from sottovoce.recipe.presets import PRESETS

PARAFORMER, ALIGNER, OMNI = "tiny-paraformer", "tiny-aligner", "tiny-omni"

_HALF_ENCODER = {"step": "prune_layers", "layers": ["re:encoder.encoders.[012]"]}
_SMALL = ({"step": "prune_layers", "encoder": 0.5}, {"step": "prune_width", "keep": 0.3})
_TRAINED = {"steps": 600, "degrade": 0.8, "learning_rate": 5e-4, "average": 0.99, "evaluations": 4}

RECIPES: dict[str, dict[str, list[dict[str, Any]]]] = {
    PARAFORMER: {
        "half of the encoder's layers": [_HALF_ENCODER],
        "the same, distilled": [_HALF_ENCODER, {"step": "distill", **_TRAINED}],
        "the same, trained on labels alone": [_HALF_ENCODER, {"step": "fine_tune", **_TRAINED}],
        "half of the encoder's layers, 30 % of the hidden units": [*_SMALL],
        "the same student, distilled": [*_SMALL, {"step": "distill", **_TRAINED, "learning_rate": 1e-3}],
        "`int4`, distilled": [
            *PRESETS["int4"].to_dict()["steps"],
            {"step": "distill", **_TRAINED, "learning_rate": 5e-5, "steps": 300},
        ],
    },
}
"""Steps that are measured, by the model and the name of their row."""
TITLES = [title for recipes in RECIPES.values() for title in recipes]
