"""A family whose output layer is its embedding table: the conformance kit, and what inspect and compress count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sottovoce
from core.toy import make_host
from sottovoce import Architecture, Layers, Model, Prediction, Runner, Sample, ScalePair
from sottovoce.plugins.host import Host
from sottovoce.testing import Conformance

VOCABULARY, WIDTH = 96, 64
LAYER = r"re:model\.layers\.\d+"


def forward(model: Model, sample: Sample) -> Tensor:
    ids = torch.tensor([[ord(letter) % VOCABULARY for letter in sample.text or ""]])
    return model.native(input_ids=ids, use_cache=False).logits[0].float()  # type: ignore[no-any-return]


def predict(model: Model, sample: Sample) -> Prediction:
    return Prediction(text=str(forward(model, sample).argmax(-1).tolist()))


class TiedPlugin:
    """Describes Qwen3's causal class, whose head is tied where its configuration says so."""

    @sottovoce.hookimpl
    def sottovoce_architectures(self) -> Iterable[Architecture]:
        yield Architecture(
            name="qwen3",
            matches=("Qwen3ForCausalLM",),
            layers=Layers(
                targets=(rf"{LAYER}\.self_attn\.[qkvo]_proj", rf"{LAYER}\.mlp\.(gate|up|down)_proj"),
                ignore={"lm_head": "output layer", r"re:model\.embed_tokens": "embedding table"},
                blocks=(LAYER,),
                scale_pairs={
                    LAYER: (
                        ScalePair("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                        ScalePair("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
                        ScalePair("mlp.up_proj", ("mlp.down_proj",)),
                    )
                },
            ),
            inputs=("text",),
            runner=Runner(
                forward=forward,
                predict=predict,
                probe=lambda model: Sample(key="probe", text="hello there"),
            ),
        )


HOST = make_host(TiedPlugin())


def make_model(directory: Path, *, tied: bool = True) -> Path:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.1,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(directory)
    return directory


class TestTied(Conformance):
    architecture = "qwen3"
    calibration = Path(__file__).with_name("text.jsonl")

    @pytest.fixture(scope="class")
    @classmethod
    def host(cls) -> Host:
        return HOST

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_model(directory)


def counts(facts: dict[str, Any]) -> tuple[int, int, int]:
    changed = sum(target["parameters"] for target in facts["targets"])
    return facts["parameters"], changed, sum(part["parameters"] for part in facts["kept"])


@pytest.mark.parametrize("recipe", [None, "int8", "int4", "fp8"])
def test_inspect_counts_a_tied_weight_once(recipe: str | None, tmp_path: Path) -> None:
    facts = {
        tied: sottovoce.inspect(make_model(tmp_path / str(tied), tied=tied), recipe, host=HOST)
        for tied in (True, False)
    }
    for one in facts.values():
        everything, changed, kept = counts(one)
        assert changed + kept == everything
        assert sum(part["parameters"] for part in one["coverage"]["parts"].values()) == everything
    assert facts[False]["parameters"] - facts[True]["parameters"] == VOCABULARY * WIDTH
    assert facts[False]["size_bytes"] - facts[True]["size_bytes"] == 4 * VOCABULARY * WIDTH


def test_tied_weight_stays_float_for_any_target(tmp_path: Path) -> None:
    source = make_model(tmp_path / "model")
    recipe = {"steps": [{"step": "quantize", "targets": [r"re:.*\.q_proj"], "embeddings": "int8"}]}
    model = sottovoce.load(source, host=HOST)
    (step,) = sottovoce.compress(model, recipe, host=HOST).to_dict()["steps"]
    assert {
        "name": "model.embed_tokens",
        "parameters": VOCABULARY * WIDTH,
        "reason": "its weight is that of 'lm_head' too",
    } in step["kept"]
    assert [target["name"] for target in step["targets"]] == [f"model.layers.{n}.self_attn.q_proj" for n in (0, 1)]


@pytest.mark.parametrize("stream", [True, False])
def test_compressed_tied_model_is_stored_once_and_tied_on_load(stream: bool, tmp_path: Path) -> None:
    from safetensors import safe_open

    model = sottovoce.load(make_model(tmp_path / "model"), host=HOST)
    sottovoce.compress(model, "int8", host=HOST)
    saved = sottovoce.save(model, tmp_path / "saved", host=HOST)
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert "model.embed_tokens.weight" in file.keys()  # noqa: SIM118  (it is no mapping)
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    again = sottovoce.load(saved, host=HOST, stream=stream)
    assert again.module.lm_head.weight is again.module.model.embed_tokens.weight  # type: ignore[union-attr]
    assert again.size_bytes == model.size_bytes


def test_file_with_two_weights_for_one_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from sottovoce.errors import CheckpointError

    model = sottovoce.load(make_model(tmp_path / "model"), host=HOST)
    sottovoce.compress(model, "int8", host=HOST)
    saved = sottovoce.save(model, tmp_path / "saved", host=HOST)
    tensors = load_file(saved / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, saved / "model.safetensors")
    (saved / "compression.json").unlink()
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight and lm_head.weight, which differ"):
        sottovoce.load(saved, host=HOST)
