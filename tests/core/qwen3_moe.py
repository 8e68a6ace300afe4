"""A tiny mixture of experts of transformers' own class, with a plugin of a few lines: core on the real thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import sottovoce
from core.toy import make_architecture, make_host
from sottovoce import Architecture, Model, Prediction, Sample, Samples
from sottovoce.architecture import ExpertLayout
from sottovoce.checkpoint.shards import Shards

LAYERS, EXPERTS, TOP_K, WIDTH, INNER, VOCABULARY = 3, 8, 2, 64, 32, 64
BLOCKS = [f"model.layers.{number}" for number in range(LAYERS)]
MIXTURES = [f"{block}.mlp.experts" for block in BLOCKS]


def ids_of(sample: Sample) -> Tensor:
    return torch.tensor([[ord(letter) % VOCABULARY for letter in sample.text or ""]])


def forward(model: Model, sample: Sample) -> Tensor:
    return model.native(input_ids=ids_of(sample), use_cache=False).logits[0].float()  # type: ignore[no-any-return]


def predict(model: Model, sample: Sample) -> Prediction:
    return Prediction(text=str(forward(model, sample).argmax(-1).tolist()))


def architecture(**changes: Any) -> Architecture:
    """The class's facts, with some changed."""
    facts: dict[str, Any] = {
        "name": "qwen3-moe",
        "matches": ("Qwen3MoeForCausalLM",),
        "targets": (
            r"re:model\.layers\.\d+\.self_attn\.[qkvo]_proj",
            r"re:model\.layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj",
        ),
        "ignore": {"lm_head": "output layer"},
        "blocks": (r"re:model\.layers\.\d+",),
        "weight_only": {r"re:.*\.experts\..*": "an expert is given few tokens"},
        "experts": (ExpertLayout(part="decoder", experts=r"re:model\.layers\.\d+\.mlp\.experts", count="num_experts"),),
        "inputs": ("text",),
        "forward": forward,
        "predict": predict,
        "probe": lambda model: Sample(key="probe", text="hello there"),
    }
    return make_architecture(**(facts | changes))


class Qwen3MoePlugin:
    """Describes the family; core's loader for transformers does the rest."""

    def __init__(self, **changes: Any) -> None:
        self.facts = architecture(**changes)

    @sottovoce.hookimpl
    def sottovoce_architectures(self) -> Iterable[Architecture]:
        return [self.facts]


HOST = make_host(Qwen3MoePlugin())


def make_native(seed: int = 0, **changes: Any) -> Any:
    """A model of the library with random weights; the experts differ in size, so that measures of them disagree."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    facts: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "moe_intermediate_size": INNER,
        "num_experts": EXPERTS,
        "num_experts_per_tok": TOP_K,
        "norm_topk_prob": True,
        "initializer_range": 0.06,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "attn_implementation": "eager",
        "experts_implementation": "eager",
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        dtype = getattr(torch, changes.pop("dtype", "float32"))
        native = Qwen3MoeForCausalLM(Qwen3MoeConfig(**(facts | changes))).to(dtype).eval()
    with torch.no_grad():
        for layer in native.model.layers:
            factors = 1 + torch.arange(native.config.num_experts) % 3
            layer.mlp.experts.down_proj.mul_(factors[:, None, None])
            layer.mlp.gate.weight.mul_(4)
    return native


def make_model(directory: Path, seed: int = 0, max_shard_size: str | None = None, **changes: Any) -> Path:
    """Write a model, in several files where one asks for it."""
    native = make_native(seed, **changes)
    native.generation_config.max_new_tokens = 7
    native.save_pretrained(directory, **({"max_shard_size": max_shard_size} if max_shard_size else {}))
    return directory


def make_samples(count: int = 8, length: int = 40) -> Samples:
    """Texts that reach some experts often and some seldom."""
    letters = torch.randint(0, 40, (count, length), generator=torch.Generator().manual_seed(3))
    texts = ("".join(chr(64 + int(letter)) for letter in row) for row in letters)
    return Samples(tuple(Sample(key=f"sample-{number}", text=text) for number, text in enumerate(texts)))


SAMPLES = make_samples()


def stored(directory: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, by their names in it."""
    shards = Shards.of(directory)
    return shards.read(shards.names)


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether names, types, sizes and bytes are equal."""
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and tensor.equal(other[name]) for name, tensor in one.items()
    )


def load_stock(directory: Path, cast: bool = True) -> tuple[Any, dict[str, Any]]:
    """What transformers itself makes of a checkpoint, and what it says about the loading.

    It makes experts of 4 bits bfloat16, which the others of a float32 model do not multiply: they are cast here.
    """
    from transformers import AutoModelForCausalLM

    native, info = AutoModelForCausalLM.from_pretrained(
        directory, output_loading_info=True, attn_implementation="eager", experts_implementation="eager"
    )
    native = native.to(native.config.dtype) if cast else native
    return native.eval(), {key: value for key, value in info.items() if value}


def logits(native: Any, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return native(input_ids=ids, use_cache=False).logits[0].float()  # type: ignore[no-any-return]
