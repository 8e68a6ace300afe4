"""FSMN-VAD's real configuration, with weights by which it follows loudness: a directory in FunASR's layout.

``python benchmarks/large_vad.py DIRECTORY`` writes it. All weights are random but those of one channel, which carries
the mean of the filter banks to the state of silence. So speech between pauses is found as a trained model finds it, by
the same amount of work.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

WIDTH = 400
LOUD, SHARP = 4.5, 5.0
"""Loudness between silence and speech after normalization, and how sharply the states change there."""
CONFIG: dict[str, Any] = {
    "model": "FsmnVADStreaming",
    "model_conf": {
        "sample_rate": 16000,
        "detect_mode": 1,
        "snr_mode": 0,
        "max_end_silence_time": 800,
        "max_start_silence_time": 3000,
        "window_size_ms": 200,
        "sil_to_speech_time_thres": 150,
        "speech_to_sil_time_thres": 150,
        "max_single_segment_time": 60000,
        "speech_noise_thres": 0.6,
    },
    "encoder": "FSMN",
    "encoder_conf": {
        "input_dim": WIDTH,
        "input_affine_dim": 140,
        "fsmn_layers": 4,
        "linear_dim": 250,
        "proj_dim": 128,
        "lorder": 20,
        "rorder": 0,
        "lstride": 1,
        "rstride": 0,
        "output_affine_dim": 140,
        "output_dim": 248,
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
"""``config.yaml`` of the published FSMN-VAD, as far as inference reads it."""


def write(directory: Path, seed: int = 0) -> Path:
    """Write the model, and return its directory."""
    from funasr import AutoModel
    from funasr.register import tables

    if AutoModel is None:  # its import fills the tables
        raise RuntimeError("FunASR is not complete")
    directory.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = {key: value for key, value in CONFIG.items() if key not in ("model", "model_conf")}
        module = tables.model_classes["FsmnVADStreaming"](**CONFIG["model_conf"], **parts)
    with torch.no_grad():
        _carry_loudness_(module.encoder)
    (directory / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    metas = {"init_param": "model.safetensors", "config": "config.yaml", "frontend_conf": {"cmvn_file": "am.mvn"}}
    (directory / "configuration.json").write_text(json.dumps({"file_path_metas": metas}), encoding="utf-8")
    shift, scale = " ".join(["-8.0"] * WIDTH), " ".join(["0.2"] * WIDTH)
    lines = [
        "<Nnet>",
        f"<AddShift> {WIDTH} {WIDTH}",
        f"<LearnRateCoef> 0 [ {shift} ]",
        f"<Rescale> {WIDTH} {WIDTH}",
        f"<LearnRateCoef> 0 [ {scale} ]",
        "</Nnet>",
    ]
    (directory / "am.mvn").write_text("\n".join(lines) + "\n", encoding="utf-8")
    weights = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _carry_loudness_(encoder: Any) -> None:
    """Let the first channel of every layer carry the mean of the inputs, and the first state be silence."""
    _first_(encoder.in_linear1.linear, 1 / WIDTH, every=True)
    encoder.in_linear1.linear.bias[0] = 5.0  # so that it stays above zero, where it passes unchanged
    _first_(encoder.in_linear2.linear, 1.0)
    for block in encoder.fsmn:
        _first_(block.linear.linear, 1.0)
        block.fsmn_block.conv_left.weight[0] = 0.0
        _first_(block.affine.linear, 1.0)
    _first_(encoder.out_linear1.linear, 1.0)
    encoder.out_linear2.linear.weight.mul_(0.01)
    _first_(encoder.out_linear2.linear, -SHARP)
    encoder.out_linear2.linear.bias[0] = SHARP * LOUD


def _first_(linear: torch.nn.Linear, weight: float, every: bool = False) -> None:
    linear.weight[0] = weight if every else 0.0
    linear.weight[0, 0] = weight
    if linear.bias is not None:
        linear.bias[0] = 0.0


if __name__ == "__main__":
    write(Path(sys.argv[1]))
