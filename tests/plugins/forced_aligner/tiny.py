"""A tiny aligner of the real classes, random weights, in the layout of transformers and in that of qwen-asr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

LABELS = 400
TEMPLATE = (
    "{%- for m in messages -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}"
    "{%- else -%}{{- c.text + '<timestamp><timestamp>' -}}{%- endif -%}{%- endfor -%}{%- endfor -%}"
)


def make_processor() -> Any:
    """Every byte is a token; then the markers."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer, Qwen3ASRFeatureExtractor, Qwen3ASRProcessor

    tokenizer = Qwen2Tokenizer(
        vocab={letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))},
        merges=[],
        extra_special_tokens={
            "audio_bos_token": "<|audio_start|>",
            "audio_token": "<|audio_pad|>",
            "audio_eos_token": "<|audio_end|>",
        },
    )
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<timestamp>"], special_tokens=True)
    return Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=TEMPLATE)


def make_native(processor: Any, dtype: torch.dtype = torch.float32, **text: Any) -> Any:
    """Two layers a side; widths are multiples of 32, as grouped formats want them."""
    from transformers import Qwen3ASRConfig, Qwen3ASRForTokenClassification

    torch.manual_seed(0)
    config = Qwen3ASRConfig(
        audio_config={
            "model_type": "qwen3_asr_encoder",
            "d_model": 64,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "output_dim": 64,
            "downsample_hidden_size": 8,
        },
        text_config={
            "model_type": "qwen3",
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000},
            "tie_word_embeddings": False,
            "pad_token_id": None,
            **text,
        },
        audio_token_id=processor.audio_token_id,
        timestamp_token_id=processor.tokenizer.convert_tokens_to_ids("<timestamp>"),
        num_labels=LABELS,
        tie_word_embeddings=False,
    )
    native = Qwen3ASRForTokenClassification(config)
    for name, parameter in native.named_parameters():
        # transformers starts them so small that all times would be near ties, and biases at zero.
        if parameter.dim() > 1 or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return native.to(dtype).eval()


def make_model(directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the layout of transformers."""
    processor = make_processor()
    make_native(processor, dtype).save_pretrained(directory)
    processor.save_pretrained(directory)


def make_original(directory: Path, source: Path, **changes: Any) -> None:
    """Write what lies in ``source`` in the layout of qwen-asr; ``changes`` are of its ``config.json``."""
    config = json.loads((source / "config.json").read_text())
    tensors = {original_name(name): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(original_config(config) | changes))
    write_original_processor(directory, source)


def original_name(name: str) -> str:
    head, _, rest = name.partition(".")
    if head == "score":
        return f"thinker.lm_head.{rest}"
    part, _, rest = rest.partition(".")
    if part == "language_model":
        return f"thinker.model.{rest}"
    if part == "multi_modal_projector":
        return f"thinker.audio_tower.proj{rest.removeprefix('linear_')}"
    return f"thinker.audio_tower.{rest}"


def original_config(config: dict[str, Any]) -> dict[str, Any]:
    """With what transformers 4 wrote into every part, and with the three axes that rotary positions had."""
    audio, text = dict(config["audio_config"]), dict(config["text_config"])
    everywhere = {
        "_name_or_path": "",
        "architectures": None,
        "add_cross_attention": False,
        "output_attentions": False,
        "torchscript": False,
        "pruned_heads": {},
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    }
    audio["max_source_positions"] = 1500
    del audio["max_position_embeddings"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {
        "interleaved": True,
        "mrope_interleaved": True,
        "mrope_section": [24, 20, 20],
        "rope_type": "default",
        "type": "default",
    }
    return {
        "architectures": ["Qwen3ASRForConditionalGeneration"],
        "model_type": "qwen3_asr",
        "support_languages": ["Chinese", "English"],
        "timestamp_token_id": config["timestamp_token_id"],
        "timestamp_segment_time": 80,
        "thinker_config": {
            "model_type": "qwen3_forced_aligner",
            "audio_config": everywhere | audio | {"model_type": "qwen3_asr_audio_encoder", "conv_chunksize": 500},
            "text_config": everywhere | text | {"model_type": "qwen3_asr_text", "num_experts": 128},
            "audio_token_id": config["audio_token_id"],
            "classify_num": LABELS,
            "dtype": config["dtype"],
            "initializer_range": 0.02,
            "user_token_id": 872,
        },
    }


def write_original_processor(directory: Path, source: Path) -> None:
    """The feature extractor is described as Whisper's; the tokenizer is in three files; the template is of chat."""
    whole = json.loads((source / "tokenizer.json").read_text())
    (directory / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    (directory / "merges.txt").write_text("#version: 0.2\n")
    added = {
        str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in whole["added_tokens"]
    }
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings |= {"added_tokens_decoder": added, "tokenizer_class": "Qwen2Tokenizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    features = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "Qwen3ASRProcessor",
        "feature_size": 128,
        "sampling_rate": 16000,
        "hop_length": 160,
        "chunk_length": 30,
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "dither": 0.0,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(features))
    audio = "<|audio_start|><|audio_pad|><|audio_end|>"
    template = "{%- for m in messages -%}<|im_start|>user\n" + audio + "<|im_end|>{%- endfor -%}"
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": template}))
