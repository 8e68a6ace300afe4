"""Qwen3-ForcedAligner-0.6B's real configuration with random weights: 917.7 million parameters in bfloat16.

``python benchmarks/large_aligner.py DIRECTORY`` writes it as transformers lays it out. Random weights say nothing about
accuracy, and everything about size, speed and memory. The tokenizer knows bytes only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

PARAMETERS = 917_728_896
_TEMPLATE = (
    "{%- for m in messages -%}{%- for c in m.content -%}"
    "{%- if c.type == 'audio' -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}"
    "{%- else -%}{{- c.text + '<timestamp><timestamp>' -}}{%- endif -%}{%- endfor -%}{%- endfor -%}"
)
AUDIO: dict[str, Any] = {
    "model_type": "qwen3_asr_encoder",
    "d_model": 1024,
    "encoder_layers": 24,
    "encoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "output_dim": 1024,
}
TEXT: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 152064,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000000},
    "tie_word_embeddings": False,
    "pad_token_id": None,
}
LABELS = 5000


def processor() -> Any:
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
    return Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=_TEMPLATE)


def write(directory: Path, seed: int = 0, layers: int | None = None) -> Path:
    """Write the model.

    Args:
        directory: Made when it is missing.
        seed: The same one gives the same weights.
        layers: Layers of either side, for a quick try; by default the real numbers.
    """
    from transformers import Qwen3ASRConfig, Qwen3ASRForTokenClassification

    text_processor = processor()
    depth = {} if layers is None else {"num_hidden_layers": layers}
    config = Qwen3ASRConfig(
        audio_config=AUDIO | ({} if layers is None else {"encoder_layers": layers}),
        text_config=TEXT | depth,
        audio_token_id=text_processor.audio_token_id,
        timestamp_token_id=text_processor.tokenizer.convert_tokens_to_ids("<timestamp>"),
        num_labels=LABELS,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16)
    native = Qwen3ASRForTokenClassification(config).eval()
    torch.set_default_dtype(torch.float32)
    native.save_pretrained(directory)
    text_processor.save_pretrained(directory)
    count = sum(parameter.numel() for parameter in native.parameters())
    if layers is None and count != PARAMETERS:
        raise RuntimeError(f"{count} parameters, not {PARAMETERS}: this transformers builds another model")
    return directory


if __name__ == "__main__":
    write(Path(sys.argv[1]))
