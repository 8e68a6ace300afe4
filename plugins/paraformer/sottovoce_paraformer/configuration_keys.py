"""Keys of FunASR's configurations: those of models, those that FunASR honors, and those of its trainer."""

from __future__ import annotations

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

CONSTRUCTION = (
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

KEPT_HEADS = "kept_heads"
"""Key of the attention heads that stay after pruning: lists of numbers by the name of the attention."""

USED = frozenset(
    (
        *MODULES,
        *(f"{name}_conf" for name in MODULES),
        *CONSTRUCTION,
        *RECOGNITION,
        "jieba_usr_dict",
        "quantization_config",
        KEPT_HEADS,
    )
)
"""The keys of the classes that this plugin describes."""

FOLLOWED = frozenset({"hub", "oss_bucket", "model_path", "vad_model", "punc_model", "spk_model", "lm_model", "lm_file"})
"""Keys that would fetch or read something elsewhere; only the caller may say them."""

TRAINING = frozenset({"train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf", "dataset", "dataset_conf"})
"""Sections of training that the published models have, too."""

RUN = TRAINING | {
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
