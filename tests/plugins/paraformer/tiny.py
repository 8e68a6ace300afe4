"""Tiny random models of FunASR's Paraformer classes, as directories that FunASR itself loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

KINDS = ("Paraformer", "BiCifParaformer", "SeacoParaformer", "ContextualParaformer")
"""The classes that :func:`make_model` knows."""

CHARACTERS = "零一二三四五六七八九十百千请把开关灯窗门空调音乐高低大小上下左右前后天地人时分秒明今年月日"
TOKENS = ("<blank>", "<s>", "</s>", *CHARACTERS, "<unk>")
NO_BIAS = len(TOKENS) - 2
FEATURES = 560
TRAINED = Path(__file__).parents[3] / "examples" / "models" / "tiny-paraformer"
"""The bundled model."""

_WIDTH = 32
_BLOCK: dict[str, Any] = {
    "attention_heads": 4,
    "linear_units": 64,
    "num_blocks": 2,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "kernel_size": 11,
    "sanm_shfit": 0,
}
_DECODER: dict[str, Any] = {
    **_BLOCK,
    "att_layer_num": 2,
    "self_attention_dropout_rate": 0.1,
    "src_attention_dropout_rate": 0.1,
}


def config(kind: str = "Paraformer") -> dict[str, Any]:
    """What ``config.yaml`` says: two blocks of width 32 with 4 heads, 54 tokens."""
    timed = kind in ("BiCifParaformer", "SeacoParaformer")
    form: dict[str, Any] = {
        "model": kind,
        "model_conf": {
            "ctc_weight": 0.0,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "predictor_weight": 1.0,
            "predictor_bias": 1,
            "sampling_ratio": 0.75,
        },
        "encoder": "SANMEncoder",
        "encoder_conf": {
            **_BLOCK,
            "output_size": _WIDTH,
            "attention_dropout_rate": 0.1,
            "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True,
            "selfattention_layer_type": "sanm",
        },
        "decoder": "ContextualParaformerDecoder" if kind == "ContextualParaformer" else "ParaformerSANMDecoder",
        "decoder_conf": dict(_DECODER),
        "predictor": "CifPredictorV3" if timed else "CifPredictorV2",
        "predictor_conf": {
            "idim": _WIDTH,
            "threshold": 1.0,
            "l_order": 1,
            "r_order": 1,
            "tail_threshold": 0.45,
            **({"upsample_times": 3, "upsample_type": "cnn_blstm", "use_cif1_cnn": False} if timed else {}),
        },
        "frontend": "WavFrontend",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": 7,
            "lfr_n": 6,
            "dither": 0.0,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
    form["model_conf"].update(_hotwords(kind))
    if kind == "SeacoParaformer":
        seaco = {**_DECODER, "num_blocks": 6, "att_layer_num": 6, "use_output_layer": False, "wo_input_layer": True}
        form.update(seaco_decoder="ParaformerSANMDecoder", seaco_decoder_conf=seaco)
    return form


def make_model(directory: Path, kind: str = "Paraformer", seed: int = 0, **changes: Any) -> Path:
    """Write a tiny random model.

    Args:
        directory: Made when it is missing.
        kind: One of :data:`KINDS`.
        seed: The same one gives the same weights.
        changes: What ``config.yaml`` says otherwise; a mapping is merged into the section of its name.

    Returns:
        The directory, with ``config.yaml``, ``configuration.json``, ``model.safetensors``, ``am.mvn``,
        ``tokens.json`` and for classes with hotwords ``seg_dict``.
    """
    form = config(kind)
    for name, change in changes.items():
        form[name] = {**form[name], **change} if isinstance(change, dict) else change
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump(form, sort_keys=False), encoding="utf-8")
    (directory / "tokens.json").write_text(json.dumps(TOKENS, ensure_ascii=False), encoding="utf-8")
    (directory / "am.mvn").write_text(_normalization(), encoding="utf-8")
    hotwords = "bias_encoder_type" in form["model_conf"]
    if hotwords:
        (directory / "seg_dict").write_text("".join(f"{c} {c}\n" for c in CHARACTERS), encoding="utf-8")
    (directory / "configuration.json").write_text(json.dumps(_configuration(hotwords)), encoding="utf-8")
    weights = {name: tensor.contiguous() for name, tensor in _module(form, seed).state_dict().items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def load(directory: Path, **options: Any) -> Any:
    """The directory as a FunASR ``AutoModel``, quiet and offline."""
    from funasr import AutoModel

    return AutoModel(model=str(directory), device="cpu", disable_update=True, disable_pbar=True, **options)


def _hotwords(kind: str) -> dict[str, Any]:
    if kind == "SeacoParaformer":
        return {"inner_dim": _WIDTH, "bias_encoder_type": "lstm", "bias_encoder_bid": False, "NO_BIAS": NO_BIAS}
    if kind == "ContextualParaformer":
        return {"inner_dim": _WIDTH, "bias_encoder_type": "lstm", "use_decoder_embedding": True}
    return {}


def _module(form: dict[str, Any], seed: int) -> torch.nn.Module:
    import funasr
    from funasr.register import tables

    assert funasr.AutoModel  # its import fills the tables
    parts = {key: value for key, value in form.items() if key not in ("model", "model_conf")}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = tables.model_classes[form["model"]](
            **form["model_conf"], **parts, input_size=FEATURES, vocab_size=len(TOKENS)
        )
    assert isinstance(made, torch.nn.Module)
    return made.eval()


def _configuration(hotwords: bool) -> dict[str, Any]:
    files: dict[str, Any] = {
        "init_param": "model.safetensors",
        "config": "config.yaml",
        "tokenizer_conf": {"token_list": "tokens.json", **({"seg_dict_file": "seg_dict"} if hotwords else {})},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    return {"framework": "pytorch", "task": "auto-speech-recognition", "file_path_metas": files}


def _normalization() -> str:
    def vector(value: float) -> str:
        return f"<LearnRateCoef> 0 [ {' '.join([f'{value:.6f}'] * FEATURES)} ]"

    size = f"{FEATURES} {FEATURES}"
    return (
        f"<Nnet>\n<Splice> {size}\n[ 0 ]\n<AddShift> {size}\n{vector(-8.0)}\n<Rescale> {size}\n{vector(0.2)}\n</Nnet>\n"
    )
