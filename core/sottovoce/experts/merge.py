"""Merging: an expert that goes is averaged into the one that stays and is nearest to it.

After Li et al., "Merge, Then Compress: Demystify Efficient SMoE with Hints from Its Routing Policy" (MC-SMoE),
https://arxiv.org/abs/2310.01334: experts are near when the router treats tokens alike for both, the hidden
neurons are matched before weights are averaged, and the average is weighted by how much each is used, here by saliency.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sottovoce.errors import SottovoceError
from sottovoce.experts.surgery import linear
from sottovoce.runtime.experts import PROJECTIONS, Experts


def router_similarity(rows: Tensor) -> Tensor:
    """Cosine similarity of the experts ``[experts, experts]``.

    Args:
        rows: One vector for each expert ``[experts, ...]``: its router logits over the calibration tokens, or without
            samples its row of the router.
    """
    unit = torch.nn.functional.normalize(rows.detach().double().flatten(1), dim=1)
    return unit @ unit.t()


def nearest_kept(similarity: Tensor, kept: Sequence[int]) -> dict[int, int]:
    """For every expert that goes, the one of ``kept`` that is most similar; the first of equal ones."""
    gone = [expert for expert in range(len(similarity)) if expert not in set(kept)]
    return {expert: kept[int(similarity[expert, list(kept)].argmax())] for expert in gone}


@torch.no_grad()
def merge_experts_(experts: Experts, score: Tensor, kept: Sequence[int], similarity: Tensor) -> dict[int, int]:
    """Average every expert that is about to go into its nearest one that stays, in place.

    The experts themselves are all left in the list. Where the scores of those that are averaged are all 0, the one
    that stays is left as it is.

    Args:
        experts: The experts of a layer, of one size.
        score: What each counts for in the average ``[experts]``, such as its saliency.
        kept: Which stay.
        similarity: How near they are ``[experts, experts]``.

    Returns:
        For every expert that goes the one that it was averaged into.

    Raises:
        CoverageError: An expert is quantized already.
        SottovoceError: scipy is not installed.
    """
    homes = nearest_kept(similarity, kept)
    for home in kept:
        members = [expert for expert, other in homes.items() if other == home and float(score[expert]) > 0]
        total = float(score[[home, *members]].sum())
        if not members:
            continue
        own = _weights(experts, home)
        added = {name: torch.zeros_like(tensor, dtype=torch.float32) for name, tensor in own.items()}
        for member in members:
            other = _matched(_weights(experts, member), own)
            for name, tensor in own.items():
                # Differences, so that experts that are alike give themselves and not a rounded sum.
                added[name] += (other[name].float() - tensor.float()) * (float(score[member]) / total)
        for name, tensor in own.items():
            tensor.copy_(tensor.float() + added[name])
    return homes


def match_neurons(features: Tensor, onto: Tensor) -> Tensor:
    """The order of an expert's hidden neurons in which they lie nearest to another's.

    The sum of the products of matched rows is the largest that any order gives, so the sum of their squared distances
    is the least.

    Args:
        features: What belongs to each neuron ``[neurons, values]``: its rows of the first projections and its column
            of the last.
        onto: The same of the other expert.

    Returns:
        int64 ``[neurons]``: neuron ``i`` of the other goes with neuron ``order[i]``.

    Raises:
        SottovoceError: scipy is not installed.
    """
    try:
        optimize: Any = importlib.import_module("scipy.optimize")
    except ImportError:
        raise SottovoceError("merging experts needs scipy: pip install scipy, or leave out merge") from None
    correlation = onto.float() @ features.float().t()
    return torch.from_numpy(optimize.linear_sum_assignment(correlation.cpu().numpy(), maximize=True)[1])


def _weights(experts: Experts, number: int) -> dict[str, Tensor]:
    """The tensors of an expert by name; changing them changes it."""
    layers = {name: linear(experts[number], name) for name in PROJECTIONS}
    weights: dict[str, Tensor] = {f"{name}.weight": layer.weight for name, layer in layers.items()}
    return weights | {f"{name}.bias": layer.bias for name, layer in layers.items() if layer.bias is not None}


def _matched(weights: dict[str, Tensor], onto: dict[str, Tensor]) -> dict[str, Tensor]:
    order = match_neurons(_features(weights), _features(onto)).to(weights["down_proj.weight"].device)
    moved = {name: tensor if name == "down_proj.bias" else tensor[order] for name, tensor in weights.items()
             if name != "down_proj.weight"}  # fmt: skip
    return moved | {"down_proj.weight": weights["down_proj.weight"][:, order]}


def _features(weights: dict[str, Tensor]) -> Tensor:
    gate, up, down = (weights[f"{name}.weight"] for name in PROJECTIONS)
    return torch.cat((gate, up, down.t()), dim=1)
