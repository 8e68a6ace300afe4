"""A small omni model of Qwen3-Omni's class, with a processor whose tokenizer knows the words of the bundled tasks."""

from __future__ import annotations

import json
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    WhisperFeatureExtractor,
)

from omni_tasks import VIDEO_FRAMES, WORDS
from sottovoce_omni_moe.processor import FramesProcessor, Qwen3OmniMoeProcessor

MELS, PATCH, SPEAKER = 64, 8, "ethan"
CODES, GROUPS = 64, 4  # codes of a codebook, codebooks
RESERVED = 1024  # the last numbers of the talker's vocabulary; generate() never lets it say them
END_OF_TEXT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MEDIA_TOKENS = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
SPEECH_TOKENS = ["<tts_pad>", "<tts_text_bos>", "<tts_text_eod>"]
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['content'] is string %}{{- message['content'] }}"
    "{%- else %}{%- for content in message['content'] %}"
    "{%- if content['type'] == 'audio' %}{{- '<|audio_start|><|audio_pad|><|audio_end|>' }}"
    "{%- elif content['type'] == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif content['type'] == 'video' %}{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif content['type'] == 'text' %}{{- content['text'] }}"
    "{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "num_experts": 32,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "rope_parameters": ROPE,
    "initializer_range": 0.05,
}
AUDIO: dict[str, Any] = {
    "num_mel_bins": MELS,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "d_model": 128,
    "output_dim": 128,
    "downsample_hidden_size": 32,
    "n_window": 50,
    "n_window_infer": 800,
    "initializer_range": 0.05,
}
VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_heads": 4,
    "patch_size": PATCH,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 128,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
    "initializer_range": 0.05,
}
TALKER: dict[str, Any] = {
    "vocab_size": CODES + RESERVED,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 64,
    "norm_topk_prob": False,
    "rope_parameters": ROPE,
    "initializer_range": 0.05,
}
PREDICTOR: dict[str, Any] = {
    "vocab_size": CODES,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_code_groups": GROUPS,
    "max_position_embeddings": 64,
    "initializer_range": 0.05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
VOCODER: dict[str, Any] = {
    "codebook_size": CODES,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_quantizers": GROUPS,
    "decoder_dim": 32,
    "upsample_rates": [8, 4],
    "upsampling_ratios": [2, 2],
    "max_position_embeddings": 1024,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
# Numbers in the talker's vocabulary that stand for no code.
CODEC: dict[str, Any] = {
    "codec_pad_id": 64,
    "codec_bos_id": 65,
    "codec_eos_token_id": 66,
    "codec_nothink_id": 67,
    "codec_think_bos_id": 68,
    "codec_think_eos_id": 69,
    "speaker_id": {SPEAKER: 70},
}


def make_tokenizer() -> Qwen2Tokenizer:
    """Make a tokenizer that knows every byte, so that any text has tokens, and the words of the tasks whole."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(WORDS, vocab_size=1024, min_frequency=1, show_progress=False)
    merges = [(first, second) for first, second in json.loads(trained.to_str())["model"]["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=trained.get_vocab(),
        merges=merges,
        unk_token=None,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        extra_special_tokens=MEDIA_TOKENS,
    )
    tokenizer.add_tokens([START_OF_TURN, *SPEECH_TOKENS], special_tokens=True)
    return tokenizer


def make_processor() -> Qwen3OmniMoeProcessor:
    """Make the processor: 64 mel bands, and pictures of any size reduced to at most 64 by 64.

    It is the plugin's, which needs no torchvision and is saved as the one of Transformers. Video frames keep their
    size, which must divide by 16: the class has a size for video of its own, a hundred times ours, that counts more
    than the video processor's.
    """
    size = {"shortest_edge": 48 * 48, "longest_edge": 64 * 64}
    vision: dict[str, Any] = {"size": size, "patch_size": PATCH, "temporal_patch_size": 2, "merge_size": 2}
    return Qwen3OmniMoeProcessor(
        Qwen2VLImageProcessorPil(**vision),
        FramesProcessor(
            **vision,
            do_resize=False,
            do_sample_frames=False,
            cap_pixels_per_frame=False,
            min_frames=2,
            max_frames=VIDEO_FRAMES * 4,
        ),
        WhisperFeatureExtractor(feature_size=MELS),
        make_tokenizer(),
        chat_template=CHAT_TEMPLATE,
    )


def make_config(tokenizer: Qwen2Tokenizer) -> Qwen3OmniMoeConfig:
    """Make the configuration for the tokens of a tokenizer."""

    def number(token: str) -> int:
        (token_id,) = tokenizer(token).input_ids
        return int(token_id)

    media = {
        "audio_token_id": number("<|audio_pad|>"),
        "image_token_id": number("<|image_pad|>"),
        "video_token_id": number("<|video_pad|>"),
        "audio_start_token_id": number("<|audio_start|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "position_id_per_seconds": 2,
        "initializer_range": 0.05,
    }
    text = TEXT | {"vocab_size": len(tokenizer), "pad_token_id": number(END_OF_TEXT)}
    return Qwen3OmniMoeConfig(
        thinker_config=media
        | {
            "text_config": text | {"eos_token_id": number(END_OF_TURN)},
            "audio_config": AUDIO,
            "vision_config": VISION,
            "user_token_id": number("user"),
        },
        talker_config=media
        | CODEC
        | {
            "text_config": TALKER,
            "code_predictor_config": PREDICTOR,
            "num_code_groups": GROUPS,
            "thinker_hidden_size": TEXT["hidden_size"],
            "accept_hidden_layer": 2,
            "spatial_merge_size": 2,
        },
        code2wav_config=VOCODER,
        im_start_token_id=number(START_OF_TURN),
        im_end_token_id=number(END_OF_TURN),
        tts_pad_token_id=number("<tts_pad>"),
        tts_bos_token_id=number("<tts_text_bos>"),
        tts_eos_token_id=number("<tts_text_eod>"),
        system_token_id=number("system"),
        user_token_id=number("user"),
        assistant_token_id=number("assistant"),
    )


def make_model(processor: Qwen3OmniMoeProcessor) -> Qwen3OmniMoeForConditionalGeneration:
    """Make an untrained model for the tokens of a processor."""
    model = Qwen3OmniMoeForConditionalGeneration(make_config(processor.tokenizer))
    for name, weight in model.named_parameters():
        if name.endswith(("mlp.gate.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj")):
            torch.nn.init.normal_(weight, std=0.05)  # the talker's are left uninitialized by the class
    return model
