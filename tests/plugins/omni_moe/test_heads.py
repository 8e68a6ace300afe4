"""The bundled omni model with half of its thinker's and talker's heads, in transformers' own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from environments import ROOT
from sottovoce import Model, read_samples
from sottovoce.errors import RecipeError

TRAINED = ROOT / "examples" / "models" / "tiny-omni"
DATA = ROOT / "examples" / "data" / "omni-tasks"


def pruned(**settings: Any) -> Model:
    model = sottovoce.load(TRAINED)
    recipe = {"steps": [{"step": "prune_heads", **settings}]}
    sottovoce.compress(model, recipe, read_samples(DATA / "calibration.jsonl").choose(16))
    return model


def test_heads_are_pruned_only_where_a_recipe_names_the_part() -> None:
    with pytest.raises(RecipeError, match="name a part with an amount: thinker, talker"):
        pruned(keep=0.5)
    config = pruned(thinker=0.5).native.config
    thinker, talker = config.thinker_config.text_config, config.talker_config.text_config
    assert (thinker.num_attention_heads, thinker.num_key_value_heads) == (2, 1)
    assert (talker.num_attention_heads, talker.num_key_value_heads) == (4, 2)


def test_transformers_class_loads_fewer_heads_and_gives_the_same_logits(tmp_path: Path) -> None:
    from transformers import Qwen3OmniMoeForConditionalGeneration

    model = pruned(thinker=1, talker=1)
    assert model.report is not None
    layers = model.report.steps[0].details["layers"]
    assert len(layers) == 5
    assert all(layer["error"] < layer["error_before_fit"] for layer in layers.values())
    sottovoce.save(model, tmp_path / "small")
    native, said = Qwen3OmniMoeForConditionalGeneration.from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not any(said.values()), said
    assert native.config.talker_config.text_config.num_key_value_heads == 1
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        got, want = (each.thinker(input_ids=ids).logits for each in (native.eval(), model.native))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
