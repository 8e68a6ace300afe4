"""Paraformer-large's real configuration with random weights: 220,084,533 parameters, as a directory in FunASR's layout.

``python benchmarks/large_model.py DIRECTORY`` writes it. Random weights say nothing about accuracy, and everything
about size, speed and memory.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from paths import FEATURES, FRAMES_A_SECOND

PARAMETERS = 220_084_533
VOCABULARY = 8404
TOKENS_A_SECOND = 4.0

_BLOCK: dict[str, Any] = {
    "attention_heads": 4,
    "linear_units": 2048,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "kernel_size": 11,
    "sanm_shfit": 0,
}
CONFIG: dict[str, Any] = {
    "model": "Paraformer",
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
        "output_size": 512,
        "num_blocks": 50,
        "attention_dropout_rate": 0.1,
        "input_layer": "pe",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "selfattention_layer_type": "sanm",
    },
    "decoder": "ParaformerSANMDecoder",
    "decoder_conf": {
        **_BLOCK,
        "num_blocks": 16,
        "att_layer_num": 16,
        "self_attention_dropout_rate": 0.1,
        "src_attention_dropout_rate": 0.1,
    },
    "predictor": "CifPredictorV2",
    "predictor_conf": {"idim": 512, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
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
"""``config.yaml`` of the published Paraformer-large, as far as inference reads it."""


def write(directory: Path, seed: int = 0) -> Path:
    """Write the model.

    Args:
        directory: Made when it is missing.
        seed: The same one gives the same weights.

    Returns:
        The directory, with ``config.yaml``, ``configuration.json``, ``model.safetensors``, ``am.mvn``, ``tokens.json``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokens = ["<blank>", "<s>", "</s>", *(chr(0x4E00 + i) for i in range(VOCABULARY - 4)), "<unk>"]
    (directory / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    (directory / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
    (directory / "am.mvn").write_text(_normalization(), encoding="utf-8")
    (directory / "configuration.json").write_text(json.dumps(_CONFIGURATION), encoding="utf-8")
    save_file(_module(seed).state_dict(), directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def _module(seed: int) -> torch.nn.Module:
    from funasr import AutoModel
    from funasr.register import tables

    if AutoModel is None:  # its import fills the tables
        raise RuntimeError("FunASR is not complete")
    parts = {key: value for key, value in CONFIG.items() if key not in ("model", "model_conf")}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tables.model_classes["Paraformer"](
            **CONFIG["model_conf"], **parts, input_size=FEATURES, vocab_size=VOCABULARY
        ).eval()
    # Untrained, the predictor would fire a token every second frame.
    rate = torch.tensor(TOKENS_A_SECOND / FRAMES_A_SECOND)
    with torch.no_grad():
        model.predictor.cif_output.weight.mul_(0.1)
        model.predictor.cif_output.bias.copy_(rate.logit()[None])
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != PARAMETERS:
        raise RuntimeError(f"{count} parameters, not {PARAMETERS}: this FunASR builds another model")
    return model  # type: ignore[no-any-return]


def _normalization() -> str:
    """Kaldi's text form of a shift and a scale that change nothing."""
    shift, scale = ("0 " * FEATURES).strip(), ("1 " * FEATURES).strip()
    return (
        f"<Nnet>\n<Splice> {FEATURES} {FEATURES}\n[ 0 ]\n"
        f"<AddShift> {FEATURES} {FEATURES}\n<LearnRateCoef> 0 [ {shift} ]\n"
        f"<Rescale> {FEATURES} {FEATURES}\n<LearnRateCoef> 0 [ {scale} ]\n</Nnet>\n"
    )


_CONFIGURATION = {
    "framework": "pytorch",
    "task": "auto-speech-recognition",
    "model": {"type": "funasr"},
    "file_path_metas": {
        "init_param": "model.safetensors",
        "config": "config.yaml",
        "tokenizer_conf": {"token_list": "tokens.json"},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    },
}

if __name__ == "__main__":
    write(Path(sys.argv[1]))
