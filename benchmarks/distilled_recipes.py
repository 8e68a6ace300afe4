"""Recipes by which ``distilled_table.py`` distills the bundled models."""

from __future__ import annotations

from typing import Any

from sottovoce.recipe.presets import EXPERT_PRESETS

PARAFORMER, ALIGNER, OMNI = "tiny-paraformer", "tiny-aligner", "tiny-omni"

_HALF_ENCODER = {"step": "prune_layers", "layers": ["re:encoder.encoders.[012]"]}
_SMALL = ({"step": "prune_layers", "encoder": 0.5}, {"step": "prune_width", "keep": 0.3})
_SMALL_ALIGNER = (
    {"step": "prune_width", "text": 0.5},
    {"step": "prune_layers", "text": 3, "audio": 3},
)
_TRAINED = {"steps": 800, "degrade": 0.8, "learning_rate": 1e-3, "average": 0.99, "evaluations": 3}
_BRIEFLY = {"steps": 80, "degrade": 0.8, "learning_rate": 1e-4, "evaluations": 2}
_TWO_BITS = {"step": "quantize", "bits": 2, "method": "gptq", "weight_range": "mse", "embeddings": "auto"}
_THREE_STAGE = EXPERT_PRESETS["three-stage"].to_dict()["steps"]


def _distilled(seed: int) -> list[dict[str, Any]]:
    return [_HALF_ENCODER, {"step": "distill", **_TRAINED, "seed": seed}]


def _zeros(sparsity: float) -> dict[str, Any]:
    return {"step": "prune_weights", "method": "magnitude", "sparsity": sparsity}


RECIPES: dict[str, dict[str, list[dict[str, Any]]]] = {
    PARAFORMER: {
        "half of the encoder's layers": [_HALF_ENCODER],
        "the same, distilled": _distilled(0),
        "the same, distilled with seed 1": _distilled(1),
        "the same, distilled with seed 2": _distilled(2),
        "the same, trained on labels alone": [_HALF_ENCODER, {"step": "fine_tune", **_TRAINED}],
        "half of the encoder's layers, 30 % of the hidden units": [*_SMALL],
        "the same student, distilled": [*_SMALL, {"step": "distill", **_TRAINED}],
        "2 bits by GPTQ": [_TWO_BITS],
        "2 bits by GPTQ, distilled": [
            _TWO_BITS,
            {"step": "distill", "steps": 400, "degrade": 0.8, "learning_rate": 3e-4, "evaluations": 4},
        ],
        "half of the single weights at once, by `magnitude`": [_zeros(0.5)],
        "half of the single weights in three steps, fine-tuned between": [
            _zeros(0.2),
            {"step": "fine_tune", **_BRIEFLY},
            _zeros(0.35),
            {"step": "fine_tune", **_BRIEFLY},
            _zeros(0.5),
            {"step": "fine_tune", **_BRIEFLY},
        ],
    },
    ALIGNER: {
        "half of the text's hidden units, a layer less in tower and text": [*_SMALL_ALIGNER],
        "the same aligner, distilled": [
            *_SMALL_ALIGNER,
            {"step": "distill", **_TRAINED, "steps": 220, "batch": 8, "learning_rate": 4e-4, "average": 0.0},
        ],
    },
    OMNI: {
        "40 % of the experts removed, `int4`": [step for step in _THREE_STAGE if step["step"] != "distill"],
        "the same, distilled between (`three-stage`)": _THREE_STAGE,
    },
}
"""Steps that are measured, by the model and the name of their row."""
TITLES = [title for recipes in RECIPES.values() for title in recipes]
