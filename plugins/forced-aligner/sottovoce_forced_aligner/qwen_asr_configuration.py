"""The configuration and the processor of transformers, made from the files that qwen-asr has in their place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce.checkpoint import read_config
from sottovoce.errors import SourceError

_AUDIO = (
    "num_mel_bins",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "d_model",
    "output_dim",
    "n_window",
    "n_window_infer",
    "downsample_hidden_size",
)
_AUDIO_OPTIONAL = (
    "activation_function",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "scale_embedding",
    "initializer_range",
)
_TEXT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
)
_TEXT_OPTIONAL = (
    "hidden_act",
    "max_position_embeddings",
    "attention_bias",
    "attention_dropout",
    "initializer_range",
    "tie_word_embeddings",
    "use_cache",
)
_AUDIO_MARKS = {
    "audio_bos_token": "<|audio_start|>",
    "audio_token": "<|audio_pad|>",
    "audio_eos_token": "<|audio_end|>",
}
_FEATURES = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft", "padding_value", "dither")


def settings(path: Path, config: Mapping[str, Any]) -> Any:
    """Return the configuration of transformers for qwen-asr's."""
    from transformers import Qwen3ASRConfig

    thinker = config["thinker_config"]
    audio = _chosen(path, thinker, "audio_config", _AUDIO, _AUDIO_OPTIONAL)
    text = _chosen(path, thinker, "text_config", _TEXT, _TEXT_OPTIONAL)
    # There are as many positions as a chunk of two windows has frames after three convolutions of stride two.
    audio["max_position_embeddings"] = -(-2 * audio["n_window"] // 8)
    text["rope_parameters"] = _rope(path, thinker["text_config"])
    numbers = {name: _need(path, thinker, name, "thinker_config.") for name in ("audio_token_id", "classify_num")}
    kind: Any = Qwen3ASRConfig
    return kind(
        audio_config={**audio, "model_type": "qwen3_asr_encoder"},
        text_config={**text, "model_type": "qwen3"},
        audio_token_id=numbers["audio_token_id"],
        num_labels=numbers["classify_num"],
        timestamp_token_id=_need(path, config, "timestamp_token_id"),
        initializer_range=thinker.get("initializer_range", 0.02),
        tie_word_embeddings=text.get("tie_word_embeddings", False),
    )


def _rope(path: Path, text: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of rotary positions; their three axes are one where there are no pictures."""
    written = text.get("rope_scaling") or text.get("rope_parameters") or {}
    kind = written.get("rope_type", written.get("type", "default"))
    if kind not in ("default", "mrope"):
        raise SourceError(f"{path}: thinker_config.text_config.rope_scaling: {kind!r} is not known here")
    theta = _need(path, {**written, **text}, "rope_theta", "thinker_config.text_config.")
    return {"rope_type": "default", "rope_theta": theta}


def _chosen(
    path: Path, thinker: Mapping[str, Any], name: str, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """Return the keys that shape the model; those that every configuration of transformers 4 had are left out."""
    part = thinker.get(name)
    if not isinstance(part, dict):
        raise SourceError(f"{path}: thinker_config has no {name}")
    values = {key: _need(path, part, key, f"thinker_config.{name}.") for key in needed}
    return values | {key: part[key] for key in optional if part.get(key) is not None}


def _need(path: Path, part: Mapping[str, Any], key: str, prefix: str = "") -> Any:
    if part.get(key) is None:
        raise SourceError(f"{path}: {prefix}{key} is missing; fetch the model again")
    return part[key]


def processor(directory: Path, config: Mapping[str, Any]) -> Any:
    """Build the processor of transformers from the feature extractor's and the tokenizer's files.

    Raises:
        SourceError: A file is missing or damaged, or the tokenizer's markers are not those of the configuration.
    """
    from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRProcessor

    described = read_config(directory / "preprocessor_config.json")
    features = {key: described[key] for key in _FEATURES if described.get(key) is not None}
    features["n_window"] = config["thinker_config"]["audio_config"]["n_window"]
    extractor: Any = Qwen3ASRFeatureExtractor
    return Qwen3ASRProcessor(
        feature_extractor=extractor(**features),
        tokenizer=_tokenizer(directory, config),
        chat_template=TEMPLATE,
        timestamp_segment_time=_need(directory / "config.json", config, "timestamp_segment_time"),
    )


def _tokenizer(directory: Path, config: Mapping[str, Any]) -> Any:
    from transformers import Qwen2Tokenizer

    read_config(directory / "tokenizer_config.json")  # refuses what asks for code
    whole = (directory / "tokenizer.json").is_file()
    if not whole and (missing := [name for name in ("vocab.json", "merges.txt") if not (directory / name).is_file()]):
        # transformers would make a tokenizer that knows nothing.
        raise SourceError(f"{directory}: the tokenizer is missing ({', '.join(missing)})")
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, extra_special_tokens=_AUDIO_MARKS
        )
    except Exception as error:
        # A damaged file can fail in any way.
        raise SourceError(f"{directory}: the tokenizer cannot be read: {' '.join(str(error).split())[:200]}") from None
    marks = {"<timestamp>": config["timestamp_token_id"], "<|audio_pad|>": config["thinker_config"]["audio_token_id"]}
    for mark, number in marks.items():
        if tokenizer.convert_tokens_to_ids(mark) != number:
            raise SourceError(f"{directory}: the tokenizer's {mark} is not the configuration's ({number})")
    return tokenizer


TEMPLATE = (
    "{%- for message in messages -%}{%- for part in message.content -%}"
    "{%- if part.type == 'text' -%}{{- part.text + '<timestamp><timestamp>' -}}"
    "{%- else -%}{{- '<|audio_start|><|audio_pad|><|audio_end|>' -}}{%- endif -%}"
    "{%- endfor -%}{%- endfor -%}"
)
"""Audio, then every word with its two markers, and no chat around them: the repository's own template is of chat."""
