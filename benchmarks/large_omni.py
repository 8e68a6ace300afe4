"""Qwen3-Omni-30B-A3B's real widths with random weights and as many thinker layers as asked for, in bfloat16.

``python benchmarks/large_omni.py DIRECTORY --layers 4`` writes it as the published checkpoint is laid out: towers,
embeddings, 128 experts of 768 a layer; without the talker, as ``Thinking`` and ``Captioner`` are. Random weights say
nothing about accuracy, and everything about size, speed and memory. The tokenizer knows bytes only.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

MEDIA = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
ROLES = ["<|im_start|>", "<|im_end|>", "user", "assistant", "system"]
TEMPLATE = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}"
    "{%- elif c.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- else -%}{{- c.text -}}{%- endif -%}{%- endfor -%}{{- '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
TEXT: dict[str, Any] = {
    "vocab_size": 152064,
    "hidden_size": 2048,
    "intermediate_size": 768,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1000000.0,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
_STORED = (
    (re.compile(r"^thinker\.model\.language_model\."), "thinker.model."),
    (re.compile(r"^thinker\.model\.(audio_tower|visual)\."), r"thinker.\1."),
)


def processor() -> Any:
    """Every byte is a token; then the markers. Pictures and sound are cut as the published one cuts them."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer, Qwen2VLImageProcessorPil, WhisperFeatureExtractor

    from sottovoce_omni_moe.processor import FramesProcessor, Qwen3OmniMoeProcessor

    tokenizer = Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        extra_special_tokens=MEDIA,
    )
    tokenizer.add_tokens(ROLES, special_tokens=True)
    vision: dict[str, Any] = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}
    return Qwen3OmniMoeProcessor(
        Qwen2VLImageProcessorPil(**vision),
        FramesProcessor(**vision),
        WhisperFeatureExtractor(feature_size=128),
        tokenizer,
        chat_template=TEMPLATE,
    )


def configuration(processor: Any, layers: int) -> Any:
    """Return the published configuration with another number of layers and other token ids."""
    from transformers import Qwen3OmniMoeConfig

    number = processor.tokenizer.convert_tokens_to_ids
    tokens = {
        "audio_token_id": "<|audio_pad|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "audio_start_token_id": "<|audio_start|>",
        "vision_start_token_id": "<|vision_start|>",
        "user_token_id": "user",
    }
    thinker = {name: number(token) for name, token in tokens.items()} | {
        "text_config": TEXT | {"num_hidden_layers": layers},
        "audio_config": {"output_dim": 2048, "n_window": 50, "n_window_infer": 800},
        "vision_config": {"out_hidden_size": 2048},
        "position_id_per_seconds": 13,
    }
    others = {
        "im_start_token_id": "<|im_start|>",
        "im_end_token_id": "<|im_end|>",
        "system_token_id": "system",
        "user_token_id": "user",
        "assistant_token_id": "assistant",
    }
    return Qwen3OmniMoeConfig(
        thinker_config=thinker,
        enable_audio_output=False,
        dtype="bfloat16",
        **{name: number(token) for name, token in others.items()},
    )


def write(directory: Path, layers: int) -> Path:
    """Write the model, one shard a layer, so that no more than a layer is in memory."""
    from safetensors.torch import save_file
    from transformers import Qwen3OmniMoeForConditionalGeneration

    directory.mkdir(parents=True, exist_ok=True)
    media_processor = processor()
    config = configuration(media_processor, layers)
    config.architectures = ["Qwen3OmniMoeForConditionalGeneration"]
    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in Qwen3OmniMoeForConditionalGeneration(config).state_dict().items()
        }
    groups: dict[str, list[str]] = {}
    for name in shapes:
        match = re.search(r"language_model\.layers\.(\d+)\.", name)
        groups.setdefault(match.group(1) if match else "rest", []).append(name)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(groups.values(), 1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        tensors = dict(tensor for name in names for tensor in _tensors(name, shapes[name]))
        save_file(tensors, directory / file, {"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, file))
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    config.save_pretrained(directory)
    media_processor.save_pretrained(directory)
    return directory


def _tensors(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors that a parameter is stored as: experts one by one."""
    for pattern, stored in _STORED:
        name = pattern.sub(stored, name)
    if name.endswith("experts.gate_up_proj"):
        for expert in range(shape[0]):
            for projection in ("gate_proj", "up_proj"):
                key = name.replace("gate_up_proj", f"{expert}.{projection}.weight")
                yield key, _random((shape[1] // 2, shape[2]))
    elif name.endswith("experts.down_proj"):
        for expert in range(shape[0]):
            yield name.replace("down_proj", f"{expert}.down_proj.weight"), _random(shape[1:])
    elif len(shape) == 1:
        yield name, torch.ones(shape, dtype=torch.bfloat16) if "norm" in name else _random(shape)
    else:
        yield name, _random(shape)


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    given = parser.parse_args()
    write(given.directory, given.layers)


if __name__ == "__main__":
    main()
