"""Pruning of the weights of single layers, in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.calibration.output_error import output_error
from sottovoce.errors import NotFiniteError
from sottovoce.pruning.sparsegpt import inverse_factor, sparsegpt
from sottovoce.pruning.wanda import wanda
from sottovoce.pruning.weights_step import PruneWeights
from sottovoce.pruning.zeros import zeros_in_groups, zeros_in_layer


@dataclass(frozen=True, kw_only=True)
class ZeroResult:
    """Zeros of one layer, and its sizes in bytes."""

    weights: int
    zeros: int
    dense_bytes: int
    bitmask_bytes: int
    """A bit for each weight, and the values that are not zero."""
    output_error: float | None = None


def prune_layers_(
    layers: Mapping[str, nn.Linear], statistics: Mapping[str, InputStatistics], step: PruneWeights
) -> dict[str, ZeroResult]:
    """Set weights of layers to zero; layers without statistics are pruned by magnitude.

    Args:
        layers: The layers by name.
        statistics: Statistics of their inputs; layers with the same inputs share theirs.
        step: The recipe's step.

    Raises:
        NotFiniteError: The second moments of a layer's inputs cannot be inverted.
    """
    results: dict[str, ZeroResult] = {}
    moments = {id(counts): counts.hessian for counts in statistics.values()}
    factors: dict[int, Tensor] = {}
    for name, layer in layers.items():
        weight = layer.weight.detach().float()
        counts = statistics.get(name)
        if counts is None:
            _set_(layer, magnitude(weight, step.share))
            results[name] = _result(layer)
            continue
        key = id(counts)
        if step.method == "sparsegpt" and key not in factors:
            try:
                factors[key] = inverse_factor(moments[key], step.damp)
            except ArithmeticError as problem:
                raise NotFiniteError(f"{name}: {problem}") from None
        _set_(layer, _pruned(weight, step, moments[key], factors.get(key)))
        error = output_error(weight, layer.weight.detach().float(), moments[key])
        results[name] = _result(layer, float(f"{error:.4g}"))
    return results


def magnitude(weight: Tensor, share: float | None) -> Tensor:
    """Return a weight whose smallest values are zero.

    Args:
        weight: Float32 ``[out, in]``; left as it is.
        share: Share of zeros in the layer; ``None`` for two of every four adjacent inputs.
    """
    scores, zero = weight.abs(), weight == 0
    mask = zeros_in_groups(scores, zero) if share is None else zeros_in_layer(scores, zero, share)
    return weight.masked_fill(mask, 0)


def expected_zeros(layer: nn.Linear, step: PruneWeights) -> ZeroResult:
    """Return the result for a layer without data."""
    share = 0.5 if step.share is None else step.share
    rows, width = layer.weight.shape
    zeros = rows * round(share * width) if step.method == "wanda" else round(share * rows * width)
    return _sizes(layer, zeros)


def _pruned(weight: Tensor, step: PruneWeights, moments: Tensor, factor: Tensor | None) -> Tensor:
    if factor is not None:
        return sparsegpt(weight, factor, step.share)
    return wanda(weight, moments, step.share) if step.method == "wanda" else magnitude(weight, step.share)


@torch.no_grad()
def _set_(layer: nn.Linear, weight: Tensor) -> None:
    # A new tensor: that of a checkpoint may lie in a file that is read only.
    layer.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)


def _result(layer: nn.Linear, error: float | None = None) -> ZeroResult:
    return _sizes(layer, int((layer.weight == 0).sum()), error)


def _sizes(layer: nn.Linear, zeros: int, error: float | None = None) -> ZeroResult:
    weights, width = layer.weight.numel(), layer.weight.element_size()
    return ZeroResult(
        weights=weights,
        zeros=zeros,
        dense_bytes=weights * width,
        bitmask_bytes=-(-weights // 8) + (weights - zeros) * width,
        output_error=error,
    )
