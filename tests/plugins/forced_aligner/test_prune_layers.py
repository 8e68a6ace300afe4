"""An aligner with fewer layers loads in the class of transformers as it is, and says the same there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from sottovoce import read_samples
from sottovoce.errors import RecipeError
from sottovoce_forced_aligner.inference import inputs
from sottovoce_forced_aligner.reading import prepare

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-aligner"
CALIBRATION = ROOT / "tests" / "calibration.jsonl"

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers


def step(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"step": "prune_layers", **settings}]}


def test_aligner_with_fewer_layers_is_the_same_in_transformers(tmp_path: Path) -> None:
    from transformers import Qwen3ASRForTokenClassification

    model = sottovoce.load(TRAINED)
    layers = ["model.audio_tower.layers.1", "model.language_model.layers.2"]
    report = sottovoce.compress(model, step(layers=layers), CALIBRATION)
    assert {target.name for target in report.steps[0].targets} == set(layers)
    sottovoce.save(model, tmp_path / "pruned")
    stock: Any = Qwen3ASRForTokenClassification.from_pretrained(tmp_path / "pruned").eval()
    config = stock.config
    assert (config.audio_config.encoder_layers, config.text_config.num_hidden_layers) == (3, 3)
    assert len(config.text_config.layer_types) == 3
    ours: Any = model.module.get_submodule("model.language_model.layers")
    assert [layer.self_attn.layer_idx for layer in ours] == [0, 1, 2]
    batch = prepare(model.processor, *inputs(model, read_samples(CALIBRATION)[0]))
    with torch.inference_mode():
        # The numbers of the layers count where keys are cached.
        theirs = stock(**batch, use_cache=True).logits
        assert torch.allclose(theirs, model.native(**batch, use_cache=True).logits, atol=1e-3)


def test_layers_of_both_sides_are_chosen_by_default() -> None:
    model = sottovoce.load(TRAINED)
    report = sottovoce.compress(model, step(keep=3), CALIBRATION).steps[0]
    assert {name: part["kept"] for name, part in report.details["parts"].items()} == {"audio": 3, "text": 3}
    assert len(report.details["removals"]) == 2


def test_first_layer_of_the_text_side_is_not_absorbed() -> None:
    with pytest.raises(RecipeError, match="no layer before 'model.language_model.layers.0' could absorb it"):
        sottovoce.compress(sottovoce.load(TRAINED), step(layers=["model.language_model.layers.0"]), CALIBRATION)
