"""A small forced aligner of Qwen3-ForcedAligner's class, with a processor for the bundled Mandarin commands."""

from __future__ import annotations

import json

from tokenizers import ByteLevelBPETokenizer
from transformers import (
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForTokenClassification,
    Qwen3ASRProcessor,
)

LABELS = 256  # bins of 80 ms: 20 seconds
MARKER = "<timestamp>"
AUDIO_TOKENS = {
    "audio_bos_token": "<|audio_start|>",
    "audio_token": "<|audio_pad|>",
    "audio_eos_token": "<|audio_end|>",
}
END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
# As in the large model: the audio, then every word with two markers, and nothing else.
CHAT_TEMPLATE = (
    "{%- for message in messages %}{%- for content in message['content'] %}"
    "{%- if content['type'] == 'audio' %}{{- '<|audio_start|><|audio_pad|><|audio_end|>' }}"
    "{%- elif content['type'] == 'text' %}{{- content['text'] + '<timestamp><timestamp>' }}"
    "{%- endif %}{%- endfor %}{%- endfor %}"
)
AUDIO = {
    "num_mel_bins": 128,
    "encoder_layers": 4,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
    "d_model": 192,
    "output_dim": 192,
    "downsample_hidden_size": 32,
    "n_window": 50,
    "n_window_infer": 800,
    "initializer_range": 0.05,
}
TEXT = {
    "hidden_size": 192,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "use_cache": False,
}


def make_processor(characters: list[str]) -> Qwen3ASRProcessor:
    """Make a processor whose tokenizer knows every byte, so that any text has tokens, and these characters whole."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(characters, vocab_size=1024, min_frequency=1, show_progress=False)
    vocabulary, merges = trained.get_vocab(), _merges(trained)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=None,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        extra_special_tokens=AUDIO_TOKENS,
    )
    tokenizer.add_tokens([MARKER], special_tokens=True)
    return Qwen3ASRProcessor(
        feature_extractor=Qwen3ASRFeatureExtractor(), tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    )


def _merges(tokenizer: ByteLevelBPETokenizer) -> list[tuple[str, str]]:
    pairs = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(first, second) for first, second in pairs]


def make_model(processor: Qwen3ASRProcessor) -> Qwen3ASRForTokenClassification:
    """Make an untrained model for the tokens of a processor."""
    tokenizer = processor.tokenizer
    config = Qwen3ASRConfig(
        audio_config=AUDIO,
        text_config=TEXT | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id},
        audio_token_id=processor.audio_token_id,
        timestamp_token_id=tokenizer.convert_tokens_to_ids(MARKER),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.pad_token_id, tokenizer.eos_token_id],
        initializer_range=TEXT["initializer_range"],
        num_labels=LABELS,
    )
    return Qwen3ASRForTokenClassification(config)
