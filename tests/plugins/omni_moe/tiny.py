"""A tiny omni model of the real classes, random weights: a thinker with towers, a talker and a vocoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sottovoce import Model, Source
from sottovoce.plugins.host import Host

MELS, PATCH, CODES, GROUPS = 16, 4, 32, 3
RESERVED = 1024
"""Numbers at the end of the talker's vocabulary that generate() takes for no sounds."""
MEDIA = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
OTHERS = ["<|im_start|>", "<|im_end|>", "<tts_pad>", "<tts_bos>", "<tts_eos>", "user", "assistant", "system"]
TEMPLATE = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}"
    "{%- if m.content is string -%}{{- m.content -}}{%- else -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}"
    "{%- elif c.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif c.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- else -%}{{- c.text -}}{%- endif -%}{%- endfor -%}{%- endif -%}{{- '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LAYERS = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
LONGEST = 12
"""Tokens of an answer: with random weights it would not end."""
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}


def make_processor() -> Any:
    """Every byte is a token; then the markers and the roles."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer, Qwen2VLImageProcessorPil, WhisperFeatureExtractor

    from sottovoce_omni_moe.processor import FramesProcessor, Qwen3OmniMoeProcessor

    tokenizer = Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        extra_special_tokens=MEDIA,
    )
    tokenizer.add_tokens(OTHERS, special_tokens=True)
    size = {"shortest_edge": 16 * 16, "longest_edge": 24 * 24}
    vision: dict[str, Any] = {"size": size, "patch_size": PATCH, "temporal_patch_size": 2, "merge_size": 2}
    processor = Qwen3OmniMoeProcessor(
        Qwen2VLImageProcessorPil(**vision),
        FramesProcessor(**vision),
        WhisperFeatureExtractor(feature_size=MELS),
        tokenizer,
        chat_template=TEMPLATE,
    )
    # The class has a size for videos that counts more than the video processor's own.
    processor.videos_kwargs = {"size": size}
    return processor


def make_config(processor: Any, *, talker: bool = True) -> Any:
    """Two layers a side, the states of the first go to the talker; widths are multiples of 32, as groups want them."""
    from transformers import Qwen3OmniMoeConfig

    number = processor.tokenizer.convert_tokens_to_ids
    media = {
        "audio_token_id": number("<|audio_pad|>"),
        "image_token_id": number("<|image_pad|>"),
        "video_token_id": number("<|video_pad|>"),
        "audio_start_token_id": number("<|audio_start|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "position_id_per_seconds": 2,
    }
    thinker = media | {
        "text_config": LAYERS
        | EXPERTS
        | {
            "vocab_size": len(processor.tokenizer),
            "num_hidden_layers": 2,
            "rope_parameters": ROPE,
            "pad_token_id": None,
        },
        "audio_config": {
            "num_mel_bins": MELS,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 32,
            "output_dim": 32,
            "downsample_hidden_size": 4,
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": PATCH,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
            "num_position_embeddings": 16,
        },
        "user_token_id": number("user"),
    }
    speech = media | {
        "text_config": LAYERS
        | EXPERTS
        | {
            "vocab_size": CODES + RESERVED,
            "num_hidden_layers": 2,
            "rope_parameters": ROPE,
            "shared_expert_intermediate_size": 32,
        },
        "code_predictor_config": LAYERS
        | {
            "vocab_size": CODES,
            "num_hidden_layers": 1,
            "num_code_groups": GROUPS,
            "rope_parameters": PLAIN_ROPE,
        },
        "num_code_groups": GROUPS,
        "thinker_hidden_size": 32,
        "accept_hidden_layer": 1,
        "spatial_merge_size": 2,
        "codec_pad_id": CODES,
        "codec_bos_id": CODES + 1,
        "codec_eos_token_id": CODES + 2,
        "codec_nothink_id": CODES + 3,
        "codec_think_bos_id": CODES + 4,
        "codec_think_eos_id": CODES + 5,
        "speaker_id": {"chelsie": CODES + 6, "ethan": CODES + 7},
    }
    vocoder = {
        "codebook_size": CODES,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_quantizers": GROUPS,
        "decoder_dim": 16,
        "upsample_rates": [2, 2],
        "upsampling_ratios": [2, 2],
        "rope_parameters": PLAIN_ROPE,
    }
    names = {
        "im_start_token_id": "<|im_start|>",
        "im_end_token_id": "<|im_end|>",
        "tts_pad_token_id": "<tts_pad>",
        "tts_bos_token_id": "<tts_bos>",
        "tts_eos_token_id": "<tts_eos>",
        "system_token_id": "system",
        "user_token_id": "user",
        "assistant_token_id": "assistant",
    }
    return Qwen3OmniMoeConfig(
        thinker_config=thinker,
        talker_config=speech,
        code2wav_config=vocoder,
        enable_audio_output=talker,
        **{name: number(token) for name, token in names.items()},
    )


def make_native(processor: Any, *, talker: bool = True) -> Any:
    """With weights large enough that what is heard makes a difference."""
    from transformers import Qwen3OmniMoeForConditionalGeneration

    torch.manual_seed(0)
    native = Qwen3OmniMoeForConditionalGeneration(make_config(processor, talker=talker))
    for name, parameter in native.named_parameters():
        if parameter.dim() > 1 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.15)
    native.generation_config.max_new_tokens = LONGEST
    return native.eval()


def make_model(directory: Path, *, talker: bool = True) -> None:
    """Write the layout of transformers."""
    processor = make_processor()
    make_native(processor, talker=talker).save_pretrained(directory)
    processor.save_pretrained(directory)


def in_memory(*, talker: bool = True) -> Model:
    """The model without files."""
    processor = make_processor()
    native = make_native(processor, talker=talker)
    source = Source(name="tiny-omni", directory=Path())
    architecture = Host().architectures["qwen3-omni-moe"]
    return Model(module=native, native=native, processor=processor, architecture=architecture, source=source)
