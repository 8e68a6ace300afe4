"""Low-rank changes that FunASR's trainer left beside the weights: merged, the weights are those of a plain model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULTS = {"lora_rank": 8, "lora_alpha": 16}
_LETTERS = {"linear_q_k_v": "qkv", "linear_k_v": "kv"}
"""Layers that hold several projections, one below another, and the letters of these in ``lora_list``."""


@dataclass(frozen=True)
class LowRank:
    """Low-rank layers of one part of a model."""

    letters: str
    rank: int
    alpha: float


def take_settings(config: dict[str, Any]) -> dict[str, LowRank]:
    """Take the low-rank layers out of a configuration: the model is built without them.

    Returns:
        For the name of each part that has any, such as ``encoder``, what is to be added.
    """
    settings: dict[str, LowRank] = {}
    for key, section in config.items():
        if not key.endswith("_conf") or not isinstance(section, dict):
            continue
        stated = {name: section.pop(name) for name in list(section) if name.startswith("lora_")}
        if letters := stated.get("lora_list"):
            facts = {**_DEFAULTS, **stated}
            settings[key.removesuffix("_conf")] = LowRank(
                "".join(map(str, letters)), int(facts["lora_rank"]), float(facts["lora_alpha"])
            )
    return settings


def merged(tensors: Mapping[str, Tensor], settings: Mapping[str, LowRank], where: str) -> dict[str, Tensor]:
    """Return the tensors with every low-rank product added to the weight that it changes.

    Args:
        tensors: A checkpoint.
        settings: From :func:`take_settings`.
        where: Name of the file in an error.

    Raises:
        CheckpointError: A product has no weight, does not fit it, or is of a part without settings.
    """
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith((".lora_A", ".lora_B"))}
    if len(plain) == len(tensors):
        return plain
    if not plain:
        raise CheckpointError(f"{where}: holds LoRA's tensors alone; give the checkpoint that has the model's too")
    for layer in _layers(tensors):
        part = settings.get(layer.partition(".")[0])
        try:
            if part is None:
                raise ValueError("the configuration has no lora_list for it")
            weight = plain[f"{layer}.weight"]
            change = _change(tensors[f"{layer}.lora_A"], tensors[f"{layer}.lora_B"], layer, part, weight)
            plain[f"{layer}.weight"] = (weight.float() + change).to(weight.dtype)
        except (KeyError, ValueError, RuntimeError) as error:
            problem = f"there is no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise CheckpointError(f"{where}: the LoRA of {layer} cannot be merged: {problem}") from None
    return plain


def _layers(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    yield from dict.fromkeys(name.rpartition(".")[0] for name in tensors if name.endswith((".lora_A", ".lora_B")))


def _change(down: Tensor, up: Tensor, layer: str, part: LowRank, weight: Tensor) -> Tensor:
    """Return the product of the low-rank matrices of each projection that has them, in the weight's shape."""
    letters = _LETTERS.get(layer.rpartition(".")[2], "")
    enabled = [letter in part.letters for letter in letters] or [True]
    count = sum(enabled)
    rank, rows = up.shape[1], weight.shape[0] // len(enabled)
    if rank != part.rank or tuple(down.shape) != (rank * count, weight.shape[1]) or up.shape[0] != rows * count:
        raise ValueError(
            f"lora_A {list(down.shape)} and lora_B {list(up.shape)} do not fit the weight {list(weight.shape)} "
            f"with rank {part.rank} and lora_list {part.letters}"
        )
    products = zip(up.float().view(count, rows, rank), down.float().view(count, rank, -1), strict=True)
    change = weight.new_zeros(weight.shape).float()
    for block, (above, below) in zip((number for number, on in enumerate(enabled) if on), products, strict=True):
        change[block * rows : (block + 1) * rows] = above @ below * (part.alpha / rank)
    return change
