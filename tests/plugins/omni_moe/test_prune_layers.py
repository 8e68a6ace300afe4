"""An omni model with fewer layers loads in the class of transformers as it is; what reads other layers follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from sottovoce import read_samples
from sottovoce.errors import RecipeError

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-omni"
CALIBRATION = ROOT / "examples" / "data" / "omni-tasks" / "calibration.jsonl"
THINKER = "thinker.model.language_model.layers"

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers


def step(**settings: Any) -> dict[str, Any]:
    return {"steps": [{"step": "prune_layers", **settings}]}


def test_model_with_fewer_layers_is_the_same_in_transformers(tmp_path: Path) -> None:
    from transformers import Qwen3OmniMoeForConditionalGeneration

    model = sottovoce.load(TRAINED)
    layers = [f"{THINKER}.1", "thinker.model.audio_tower.layers.1", "thinker.model.visual.blocks.1"]
    report = sottovoce.compress(model, step(layers=layers), read_samples(CALIBRATION).choose(12))
    assert {target.name for target in report.steps[0].targets} == set(layers)
    sottovoce.save(model, tmp_path / "pruned")
    stock: Any = Qwen3OmniMoeForConditionalGeneration.from_pretrained(tmp_path / "pruned").eval()
    thinker = stock.config.thinker_config
    assert (thinker.text_config.num_hidden_layers, thinker.audio_config.encoder_layers) == (2, 2)
    assert (thinker.vision_config.depth, list(thinker.vision_config.deepstack_visual_indexes)) == (1, [0])
    assert stock.config.talker_config.accept_hidden_layer == 1
    ours = model.module.get_submodule(THINKER)
    assert [layer.self_attn.layer_idx for layer in ours] == [0, 1]  # type: ignore[union-attr]
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        theirs = stock.thinker(input_ids=ids).logits
        assert torch.allclose(theirs, model.native.thinker(input_ids=ids).logits, atol=0.05, rtol=0.02)


def test_layers_of_the_thinker_are_chosen_by_default_but_never_those_that_pictures_enter_after() -> None:
    model = sottovoce.load(TRAINED)
    report = sottovoce.compress(model, step(keep=2), read_samples(CALIBRATION).choose(8)).steps[0]
    assert {target.name for target in report.targets} < {f"{THINKER}.1", f"{THINKER}.2"}
    assert list(report.details["parts"]) == ["thinker"]


@pytest.mark.parametrize("layer", [f"{THINKER}.0", "thinker.model.visual.blocks.0"])
def test_layers_that_others_read_are_never_removed(layer: str) -> None:
    with pytest.raises(RecipeError, match="is never removed"):
        sottovoce.compress(sottovoce.load(TRAINED), step(layers=[layer], absorb=False))
