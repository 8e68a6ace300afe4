"""The keys of a FunASR configuration that are the model's, and those that are its trainer's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any

RECOGNIZERS = ("Paraformer", "BiCifParaformer", "SeacoParaformer", "ContextualParaformer")
VOICE_ACTIVITY = ("FsmnVADStreaming",)
PUNCTUATION = ("CTTransformer",)

FILES: tuple[tuple[str, ...], ...] = (
    ("tokenizer_conf", "token_list"),
    ("tokenizer_conf", "seg_dict"),
    ("tokenizer_conf", "seg_dict_file"),
    ("tokenizer_conf", "bpemodel"),
    ("tokenizer_conf", "non_linguistic_symbols"),
    ("frontend_conf", "cmvn_file"),
    ("jieba_usr_dict",),
)
"""Keys of a configuration that name files which a model reads."""

MODULES = (
    "model",
    "encoder",
    "decoder",
    "seaco_decoder",
    "predictor",
    "ctc",
    "frontend",
    "tokenizer",
    "specaug",
    "normalize",
)
"""Parts of a model; each has a section of its own, with ``_conf`` behind its name."""

_CONSTRUCTION = (
    "ctc_weight",
    "ignore_id",
    "blank_id",
    "sos",
    "eos",
    "lsm_weight",
    "length_normalized_loss",
    "predictor_weight",
    "predictor_bias",
    "sampling_ratio",
    "share_embedding",
    "use_1st_decoder_loss",
    "vad_post_args",
    "punc_list",
    "punc_weight",
    "embed_unit",
    "att_unit",
    "dropout_rate",
    "sentence_end_id",
    "inner_dim",
    "bias_encoder_type",
    "bias_encoder_bid",
    "bias_encoder_dropout_rate",
    "use_decoder_embedding",
    "crit_attn_weight",
    "crit_attn_smooth",
    "NO_BIAS",
    "seaco_weight",
    "seaco_lsm_weight",
    "seaco_length_normalized_loss",
    "train_decoder",
)
RECOGNITION = (
    "batch_size",
    "batch_size_s",
    "batch_size_threshold_s",
    "beam_size",
    "chunk_size",
    "clas_scale",
    "decoding_ctc_weight",
    "en_post_proc",
    "fs",
    "hotword",
    "language",
    "lang",
    "lm_weight",
    "max_end_silence_time",
    "max_single_segment_time",
    "maxlenratio",
    "merge_length_s",
    "merge_vad",
    "minlenratio",
    "nbest",
    "ngram_weight",
    "output_timestamp",
    "penalty",
    "pred_timestamp",
    "preset_spk_num",
    "return_raw_text",
    "return_spk_center",
    "return_spk_res",
    "seed",
    "sentence_timestamp",
    "silence_schedule",
    "speech_noise_thres",
    "split_size",
    "use_itn",
)
"""Keys that FunASR honors while it recognizes."""

USED = frozenset(
    (
        *MODULES,
        *(f"{name}_conf" for name in MODULES),
        *_CONSTRUCTION,
        *RECOGNITION,
        "jieba_usr_dict",
        "quantization_config",
    )
)
"""The keys of the classes that this plugin describes."""

FOLLOWED = frozenset({"hub", "oss_bucket", "model_path", "vad_model", "punc_model", "spk_model", "lm_model", "lm_file"})
"""Keys that would fetch or read something elsewhere; only the caller may say them."""

_TRAINING = frozenset({"train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf", "dataset", "dataset_conf"})
"""Sections of training that the published models have, too."""

_RUN = _TRAINING | {
    "config",
    "deepspeed_config",
    "device",
    "disable_update",
    "excludes",
    "export",
    "init_param",
    "input_size",
    "is_training",
    "lora_bias",
    "lora_only",
    "ncpu",
    "ngpu",
    "output_dir",
    "resume",
    "scope_map",
    "token_list",
    "train_data_set_list",
    "use_ddp",
    "use_deepspeed",
    "use_fsdp",
    "valid_data_set_list",
    "vocab_size",
}


def is_described(name: str) -> bool:
    """Return whether this plugin describes the class."""
    return name in (*RECOGNIZERS, *VOICE_ACTIVITY, *PUNCTUATION)


def split(config: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Split what a model of the class ``name`` needs from what its trainer wrote.

    Returns:
        The keys that are used, and the names of the other keys that have a value.
    """
    described = is_described(name)
    used: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in config.items():
        if key in USED or not (described or key in FOLLOWED or key in _RUN):
            used[key] = _without_paths(value, (str(key),), left_out)
        elif value not in (None, False, "", [], {}):
            left_out.append(str(key))
    return used, left_out


def is_notable(left_out: list[str]) -> bool:
    """Return whether more was left out than the sections that every published model has."""
    return bool(set(left_out) - _TRAINING)


def is_absolute(name: str) -> bool:
    """Return whether a name is an absolute path, by the rules of POSIX or of Windows."""
    return bool(PureWindowsPath(name).root) or name.startswith("~")


def stays_inside(name: str) -> bool:
    """Return whether a name is relative and climbs nowhere."""
    return not is_absolute(name) and ".." not in PureWindowsPath(name).parts


def leaves(form: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield every text in nested mappings, with its keys."""
    if isinstance(form, Mapping):
        for key, value in form.items():
            yield from leaves(value, (*keys, str(key)))
    elif isinstance(form, str):
        yield keys, form


def _without_paths(value: Any, keys: tuple[str, ...], left_out: list[str]) -> Any:
    """Return a copy without paths that lead out of the directory, but for those of the files that the model reads."""
    if isinstance(value, list):
        kept = [inner for inner in value if not (isinstance(inner, str) and _leads_out(inner))]
        if len(kept) < len(value):
            left_out.append(".".join(keys))
        return [_without_paths(inner, keys, left_out) for inner in kept]
    if not isinstance(value, Mapping):
        return value
    form: dict[Any, Any] = {}
    for key, inner in value.items():
        place = (*keys, str(key))
        if isinstance(inner, str) and _leads_out(inner) and place not in FILES:
            left_out.append(".".join(place))
        else:
            form[key] = _without_paths(inner, place, left_out)
    return form


def _leads_out(name: str) -> bool:
    # A single character, such as a slash among punctuation marks, is not a path.
    return len(name) > 1 and not stays_inside(name)
