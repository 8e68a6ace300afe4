"""Merging of every removed expert into the most similar expert that stays.

After Li et al., "Merge, Then Compress: Demystify Efficient SMoE with Hints from Its Routing Policy" (MC-SMoE),
https://arxiv.org/abs/2310.01334: experts are similar when the router gives them similar logits, the hidden neurons
are matched before weights are averaged, and the average is weighted by use, here by saliency.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sottovoce.errors import SottovoceError
from sottovoce.experts.removal import float_projection
from sottovoce.runtime.experts import PROJECTIONS, Experts


def router_similarity(rows: Tensor) -> Tensor:
    """Compute the cosine similarity of the experts ``[experts, experts]``.

    Args:
        rows: One vector for each expert ``[experts, ...]``: its router logits over the calibration tokens, or without
            samples its row of the router.
    """
    unit = torch.nn.functional.normalize(rows.detach().double().flatten(1), dim=1)
    return unit @ unit.t()


def nearest_kept(similarity: Tensor, kept: Sequence[int]) -> dict[int, int]:
    """Return, for every removed expert, the most similar of ``kept``; the first of equal ones."""
    removed = [expert for expert in range(len(similarity)) if expert not in set(kept)]
    return {expert: kept[int(similarity[expert, list(kept)].argmax())] for expert in removed}


@torch.no_grad()
def merge_experts_(experts: Experts, score: Tensor, kept: Sequence[int], similarity: Tensor) -> dict[int, int]:
    """Average every expert that is about to be removed into the most similar one that stays, in place.

    No expert is removed from the list here. An expert that stays is left as it is if the removed experts that are
    most similar to it all have the score 0.

    Args:
        experts: The experts of a layer, all of the same size.
        score: Weight of every expert in the average ``[experts]``, such as its saliency.
        kept: Numbers of the experts that stay.
        similarity: Similarity of the experts ``[experts, experts]``.

    Returns:
        For every removed expert, the expert that it was averaged into.

    Raises:
        CoverageError: An expert is quantized already.
        SottovoceError: scipy is not installed.
    """
    targets = nearest_kept(similarity, kept)
    for target in kept:
        members = [expert for expert, nearest in targets.items() if nearest == target and float(score[expert]) > 0]
        total = float(score[[target, *members]].sum())
        if not members:
            continue
        weights = _weights(experts, target)
        added = {name: torch.zeros_like(tensor, dtype=torch.float32) for name, tensor in weights.items()}
        for member in members:
            matched = _matched(_weights(experts, member), weights)
            for name, tensor in weights.items():
                # Differences, so that the average of equal experts is exactly these experts and not a rounded sum.
                added[name] += (matched[name].float() - tensor.float()) * (float(score[member]) / total)
        for name, tensor in weights.items():
            tensor.copy_(tensor.float() + added[name])
    return targets


def match_neurons(features: Tensor, onto: Tensor) -> Tensor:
    """Return the order of an expert's hidden neurons in which they are closest to another expert's.

    The order maximizes the sum of the products of matched rows, so it minimizes the sum of their squared distances.

    Args:
        features: Weights of each neuron ``[neurons, values]``: its rows of the first projections and its column of
            the last.
        onto: The same of the other expert.

    Returns:
        int64 ``[neurons]``: neuron ``i`` of the other goes with neuron ``order[i]``.

    Raises:
        SottovoceError: scipy is not installed.
    """
    try:
        optimize: Any = importlib.import_module("scipy.optimize")
    except ImportError:
        raise SottovoceError("merging experts needs scipy; pip install scipy, or leave out merge") from None
    correlation = onto.float() @ features.float().t()
    return torch.from_numpy(optimize.linear_sum_assignment(correlation.cpu().numpy(), maximize=True)[1])


def _weights(experts: Experts, number: int) -> dict[str, Tensor]:
    """Return the tensors of an expert by name; changing them changes it."""
    layers = {name: float_projection(experts[number], name) for name in PROJECTIONS}
    weights: dict[str, Tensor] = {f"{name}.weight": layer.weight for name, layer in layers.items()}
    return weights | {f"{name}.bias": layer.bias for name, layer in layers.items() if layer.bias is not None}


def _matched(weights: dict[str, Tensor], onto: dict[str, Tensor]) -> dict[str, Tensor]:
    order = match_neurons(_features(weights), _features(onto)).to(weights["down_proj.weight"].device)
    matched = {name: tensor if name.startswith("down_proj") else tensor[order] for name, tensor in weights.items()}
    return matched | {"down_proj.weight": weights["down_proj.weight"][:, order]}


def _features(weights: dict[str, Tensor]) -> Tensor:
    gate, up, down = (weights[f"{name}.weight"] for name in PROJECTIONS)
    return torch.cat((gate, up, down.t()), dim=1)
