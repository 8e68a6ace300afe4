"""Tiny random models of the kinds that work beside a Paraformer: voice activity and punctuation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

MARKS = ["<unk>", "_", "，", "。", "？", "、"]
TOKENS = ["<unk>", *"今天气很好我们出去走吧你觉得怎么样零一二三四五六七八九十百千请把开关灯窗门空调音乐"]
DETECTOR_WIDTH = 400

VOICE_ACTIVITY: dict[str, Any] = {
    "model": "FsmnVADStreaming",
    "model_conf": {"sample_rate": 16000, "detect_mode": 1, "snr_mode": 0, "max_end_silence_time": 800},
    "encoder": "FSMN",
    "encoder_conf": {
        "input_dim": DETECTOR_WIDTH,
        "input_affine_dim": 32,
        "fsmn_layers": 2,
        "linear_dim": 48,
        "proj_dim": 32,
        "lorder": 8,
        "rorder": 0,
        "lstride": 1,
        "rstride": 0,
        "output_affine_dim": 32,
        "output_dim": 16,
    },
    "frontend": "WavFrontendOnline",
    "frontend_conf": {
        "fs": 16000,
        "window": "hamming",
        "n_mels": 80,
        "frame_length": 25,
        "frame_shift": 10,
        "dither": 0.0,
        "lfr_m": 5,
        "lfr_n": 1,
    },
}

PUNCTUATION: dict[str, Any] = {
    "model": "CTTransformer",
    "model_conf": {
        "ignore_id": 0,
        "embed_unit": 32,
        "att_unit": 32,
        "dropout_rate": 0.1,
        "punc_list": MARKS,
        "punc_weight": [1.0] * len(MARKS),
        "sentence_end_id": 3,
    },
    "encoder": "SANMEncoder",
    "encoder_conf": {
        "input_size": 32,
        "output_size": 32,
        "attention_heads": 4,
        "linear_units": 64,
        "num_blocks": 2,
        "dropout_rate": 0.1,
        "input_layer": "pe",
        "kernel_size": 11,
        "sanm_shfit": 0,
        "normalize_before": True,
        "selfattention_layer_type": "sanm",
    },
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>"},
}

SPEAKER: dict[str, Any] = {
    "model": "CAMPPlus",
    "model_conf": {"feat_dim": 80, "embedding_size": 16, "growth_rate": 2, "bn_size": 1, "init_channels": 8},
}


def make_speaker(directory: Path, windows: list[Any] | None = None) -> Path:
    """Write a narrow CAM++ with random weights.

    Args:
        directory: Made when it is missing.
        windows: Samples ``[24000]`` of two speakers by turns, to whom the model is fitted.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return _write(directory, SPEAKER, {}, {}, windows)


def make_voice_activity(directory: Path, longest: int = 60000) -> Path:
    """Write a tiny FSMN-VAD that finds speech everywhere: its silence state never wins.

    Args:
        directory: Made when it is missing.
        longest: Milliseconds after which a segment of speech ends.
    """
    _write_normalization(directory)
    metas = {"frontend_conf": {"cmvn_file": "am.mvn"}}
    settings = {**VOICE_ACTIVITY["model_conf"], "max_single_segment_time": longest}
    return _write(directory, VOICE_ACTIVITY | {"model_conf": settings}, metas, {})


def make_punctuation(directory: Path) -> Path:
    """Write a tiny CT-Transformer."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokens.json").write_text(json.dumps(TOKENS, ensure_ascii=False), encoding="utf-8")
    metas = {"tokenizer_conf": {"token_list": "tokens.json"}}
    return _write(directory, PUNCTUATION, metas, {"vocab_size": len(TOKENS)})


def _write(
    directory: Path,
    form: dict[str, Any],
    metas: dict[str, Any],
    sizes: dict[str, Any],
    windows: list[Any] | None = None,
) -> Path:
    import funasr
    from funasr.register import tables

    assert funasr.AutoModel  # its import fills the tables
    parts = {key: value for key, value in form.items() if key not in ("model", "model_conf")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = tables.model_classes[form["model"]](**form["model_conf"], **parts, **sizes)
        if form["model"] == "FsmnVADStreaming":
            module.encoder.out_linear2.linear.bias.data[0] = -10.0
        if windows:
            _separate_(module, windows)
    (directory / "config.yaml").write_text(yaml.safe_dump(form, sort_keys=False, allow_unicode=True), encoding="utf-8")
    metas = {"init_param": "model.safetensors", "config": "config.yaml", **metas}
    (directory / "configuration.json").write_text(json.dumps({"file_path_metas": metas}), encoding="utf-8")
    weights = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, directory / "model.safetensors")
    return directory


def _separate_(module: Any, windows: list[Any]) -> None:
    """Fit the normalizations, and a last layer whose outputs have one sign for one speaker, and another for the other.

    The windows are those of the two speakers by turns.
    """
    from funasr.models.campplus.utils import extract_feature

    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = None
    pooled: list[torch.Tensor] = []
    dense = module.xvector.dense
    handle = dense.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    features = extract_feature([torch.from_numpy(window) for window in windows])[0]
    with torch.no_grad():
        module.train()(features)
        module.eval()(features)
        inputs = pooled[-1].reshape(len(windows), -1)
        side = inputs[0::2].mean(0) - inputs[1::2].mean(0)
        scatter = torch.cat([inputs[0::2] - inputs[0::2].mean(0), inputs[1::2] - inputs[1::2].mean(0)])
        spread = scatter.T @ scatter / len(windows)
        direction = torch.linalg.solve(spread + 1.0 * spread.diagonal().mean() * torch.eye(len(spread)), side)
        noise = torch.randn(dense.linear.weight.shape[:2]) * direction.norm() / len(direction) ** 0.5
        signs = torch.randn(len(noise), 1).sign()
        dense.linear.weight.copy_((signs * direction + 0.05 * noise)[:, :, None])
        dense.nonlinear.batchnorm.reset_running_stats()
        dense.train()
        module(features)
    handle.remove()
    module.eval()


def _write_normalization(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    shift, scale = " ".join(["-8.0"] * DETECTOR_WIDTH), " ".join(["0.2"] * DETECTOR_WIDTH)
    lines = [
        "<Nnet>",
        f"<AddShift> {DETECTOR_WIDTH} {DETECTOR_WIDTH}",
        f"<LearnRateCoef> 0 [ {shift} ]",
        f"<Rescale> {DETECTOR_WIDTH} {DETECTOR_WIDTH}",
        f"<LearnRateCoef> 0 [ {scale} ]",
        "</Nnet>",
    ]
    (directory / "am.mvn").write_text("\n".join(lines) + "\n", encoding="utf-8")
