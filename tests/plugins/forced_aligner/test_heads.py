"""The bundled aligner with half of its heads, in transformers' own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from sottovoce import Model, Samples, read_samples
from sottovoce.calibration.reference import Reference

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-aligner"
DATA = ROOT / "examples" / "data" / "mandarin-commands"


def pruned(*more: dict[str, Any], **settings: Any) -> Model:
    model = sottovoce.load(TRAINED)
    recipe = {"steps": [{"step": "prune_heads", "text": 0.5, **settings}, *more]}
    sottovoce.compress(model, recipe, Samples(read_samples(DATA / "calibration.jsonl")[:32]))
    return model


@pytest.fixture(scope="module")
def small() -> Model:
    return pruned()


def test_a_head_of_keys_and_values_goes_with_its_query_heads(small: Model) -> None:
    text = small.native.config.text_config
    assert (text.num_attention_heads, text.num_key_value_heads, text.head_dim) == (2, 1, 64)
    attention: Any = small.module.get_submodule("model.language_model.layers.0.self_attn")
    shapes = [tuple(getattr(attention, f"{name}_proj").weight.shape) for name in "qkvo"]
    assert shapes == [(128, 192), (64, 192), (64, 192), (192, 128)]
    assert small.report is not None
    assert small.report.steps[0].notes == ()


def test_transformers_class_loads_it_and_gives_the_same_logits(small: Model, tmp_path: Path) -> None:
    from transformers import Qwen3ASRForTokenClassification

    sottovoce.save(small, tmp_path / "small")
    native, said = Qwen3ASRForTokenClassification.from_pretrained(tmp_path / "small", output_loading_info=True)
    assert not any(said.values()), said
    loaded = sottovoce.load(tmp_path / "small")
    sample = read_samples(DATA / "test.jsonl")[0]
    expected = small.architecture.runner.forward(small, sample)
    stock = Model(
        module=native.eval(),
        native=native,
        architecture=loaded.architecture,
        source=loaded.source,
        processor=loaded.processor,
    )
    torch.testing.assert_close(stock.architecture.runner.forward(stock, sample), expected, atol=1e-4, rtol=1e-4)


def test_order_and_refit_diverge_less_than_magnitude_without(small: Model) -> None:
    assert small.report is not None
    layers = small.report.steps[0].details["layers"].values()
    assert len(layers) == 4
    assert all(layer["error"] < 0.8 * layer["error_before_fit"] for layer in layers)
    reference = Reference(sottovoce.load(TRAINED), tuple(read_samples(DATA / "dev.jsonl")[:12]))
    plain = pruned(score="magnitude", refit=False)
    # It has only two such heads and misses either, so the difference is small.
    assert reference.divergence(small)["all"] < reference.divergence(plain)["all"]


def test_quantization_after_it_in_one_recipe_is_saved_exactly(tmp_path: Path) -> None:
    model = pruned({"step": "quantize", "bits": 8})
    assert model.module.get_submodule("model.language_model.layers.3.self_attn.o_proj").in_features == 128
    sottovoce.save(model, tmp_path / "small")
