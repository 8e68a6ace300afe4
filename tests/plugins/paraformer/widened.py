"""The bundled Paraformer in the sizes of FunASR's runtime on ggml: 512 wide with 4 heads of 128, and the same words.

Each head's 40 channels stand three times side by side in 128, and the 8 that are left hold the mean, so that norms see
nearly the statistics that they saw. Memories and predicted tokens put nothing into the last, so the numbers are not the
original's to the last digit; almost all texts are.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from plugins.paraformer.tiny import TRAINED

HEADS, NARROW, WIDE, COPIES = 4, 160, 512, 3
_SHARE = COPIES * NARROW / WIDE

_head, _wide_head = NARROW // HEADS, WIDE // HEADS
_channels = torch.arange(NARROW)
_first = _channels // _head * _wide_head + _channels % _head
_copied = torch.cat([_first + copy * _head for copy in range(COPIES)])
COPY = torch.zeros(WIDE, NARROW)
COPY[_copied, _channels.repeat(COPIES)] = 1
SPREAD = torch.where(COPY.sum(1, keepdim=True) > 0, COPY, 1 / NARROW)
"""What is added to the residual stream: the channels, and their mean in the rest."""
READ = COPY.T / COPIES
PAD = torch.zeros(WIDE, NARROW)
PAD[_first, _channels] = 1
"""Heads of queries and keys, with zeros behind them."""


def make_widened(directory: Path) -> Path:
    """Write the model, in a directory that FunASR itself loads."""
    directory.mkdir(parents=True)
    for name in ("configuration.json", "tokens.json"):
        shutil.copyfile(TRAINED / name, directory / name)
    config = yaml.safe_load((TRAINED / "config.yaml").read_text(encoding="utf-8"))
    config["encoder_conf"]["output_size"] = config["predictor_conf"]["idim"] = WIDE
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (directory / "am.mvn").write_text(_normalization((TRAINED / "am.mvn").read_text(encoding="utf-8")))
    weights = load_file(TRAINED / "model.safetensors")
    widened = {name: widen(name, weight).contiguous() for name, weight in weights.items()}
    save_file(widened, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def tokens() -> list[str]:
    return list(json.loads((TRAINED / "tokens.json").read_text(encoding="utf-8")))


def widen(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the wide model by its name."""
    if "feed_forward" in name:
        if "w_1.weight" in name:
            return weight @ READ
        return SPREAD @ weight if "w_2" in name else weight
    if "norm" in name:
        return _norm(name, weight)
    if "fsmn_block" in name:
        return (SPREAD @ weight[:, 0])[:, None]
    if name.startswith("predictor"):
        return _predictor(name, weight)
    if "output_layer" in name:
        return weight @ READ if name.endswith("weight") else weight
    if "embed" in name:
        return weight @ SPREAD.T
    return _projection(name, weight)


def _norm(name: str, weight: torch.Tensor) -> torch.Tensor:
    if len(weight) != NARROW:
        return weight
    return COPY @ weight * (_SHARE**0.5 if name.endswith("weight") else 1)


def _predictor(name: str, weight: torch.Tensor) -> torch.Tensor:
    wide = torch.zeros(*[WIDE if size == NARROW else size for size in weight.shape])
    if name == "predictor.cif_conv1d.weight":
        wide[:NARROW] = torch.einsum("oik,iw->owk", weight, READ)
    elif name.startswith("predictor.cif_conv1d"):
        wide[:NARROW] = weight
    else:
        wide[..., : weight.shape[-1]] = weight
    return wide


def _projection(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Queries are scaled for the wider head; values stand in a memory as in the stream."""
    longer = (_wide_head / _head) ** 0.5
    if "linear_out" in name:
        if name.endswith("bias"):
            return SPREAD @ weight
        return SPREAD @ weight @ (PAD.T if "src_attn" in name else READ)
    parts = list(weight.split(NARROW))
    if "linear_q_k_v" in name:
        parts = [longer * PAD @ parts[0], PAD @ parts[1], SPREAD @ parts[2]]
    elif "linear_k_v" in name:
        parts = [PAD @ part for part in parts]
    else:
        parts = [longer * PAD @ parts[0]]
    wide = torch.cat(parts)
    return wide @ READ if wide.ndim == 2 and wide.shape[1] == NARROW else wide


def _normalization(text: str) -> str:
    """Scale the features, which FunASR multiplies by the root of the width."""
    head, rescale = text.split("<Rescale>")
    numbers = re.search(r"<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]", rescale)
    assert numbers is not None
    scaled = np.array(numbers[1].split(), float) * (NARROW / WIDE) ** 0.5
    return f"{head}<Rescale>{rescale.replace(numbers[1], ' ' + ' '.join(f'{value:.9f}' for value in scaled) + ' ')}"
