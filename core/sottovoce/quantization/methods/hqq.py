"""Half-quadratic quantization: a data-free choice of scales and zero points that lets a few weights err.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023,
https://mobiusml.github.io/hqq_blog/ . The error is measured by the sum of its magnitudes to the power 0.7, which
outliers hardly raise. It is split off by a shrinkage step; for what is left the best scale (and zero point, when the
scheme has one) is known in closed form. Zero points stay whole numbers here, since they are stored so; the authors keep
them as floats and leave the scale as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams, merge, stored_scale

_POWER, _FIRST_WEIGHT, _GROWTH, _STEPS = 0.7, 10.0, 1.01, 20
_TINY = 1e-8


def hqq(weight: Tensor, scheme: Scheme) -> tuple[Tensor, QuantizationParams]:
    """Choose the qparams of every group and round to it.

    Args:
        weight: Float ``[out, in]``.
        scheme: How it is stored; integers.

    Returns:
        The steps ``[out, in]`` and their qparams: for every group the best that came up, the first one included.
    """
    qparams = best = compute_qparams(weight, scheme)
    if weight.is_meta:
        return best.quantize(weight), best
    groups = weight.float().reshape(weight.shape[0], best.scale.shape[1], -1)
    spread = groups.std(-1, correction=0, keepdim=True).clamp(min=_TINY)
    least, weight_of_split = _cost(qparams, groups), _FIRST_WEIGHT
    for _ in range(_STEPS):
        residual = (groups - _values(qparams, groups)) / spread
        target = groups - _shrink(residual, weight_of_split) * spread
        qparams = _fit(qparams, target, weight.dtype)
        cost = _cost(qparams, groups)
        best = merge(cost < least, qparams, best)
        least, weight_of_split = torch.minimum(cost, least), weight_of_split * _GROWTH
    return best.quantize(weight), best


def _shrink(residual: Tensor, weight_of_split: float) -> Tensor:
    """The generalized soft threshold of the power's proximal step."""
    magnitude = residual.abs()
    threshold = magnitude.clamp(min=_TINY).pow(_POWER - 1) / weight_of_split
    return residual.sign() * (magnitude - threshold).clamp(min=0)


def _fit(qparams: QuantizationParams, target: Tensor, dtype: torch.dtype) -> QuantizationParams:
    """Scale and zero point with the least squared error of ``target``, for the steps that it has now."""
    steps = _steps(qparams, target)
    zero_point = qparams.zero_point
    if zero_point is not None:
        scheme = qparams.scheme
        moved = (steps - target / qparams.scale[..., None]).mean(-1)
        zero_point = moved.round_().clamp_(scheme.lowest, scheme.highest)
        steps = steps - zero_point[..., None]
    power = steps.square().sum(-1)
    scale = torch.where(power > 0, (steps * target).sum(-1) / power.clamp(min=1), qparams.scale)
    scale = torch.where(scale > _TINY, scale, qparams.scale)
    return QuantizationParams(qparams.scheme, stored_scale(scale, qparams.scheme, dtype), zero_point)


def _steps(qparams: QuantizationParams, groups: Tensor) -> Tensor:
    return qparams.quantize(groups.flatten(1)).float().reshape(groups.shape)


def _values(qparams: QuantizationParams, groups: Tensor) -> Tensor:
    return qparams.dequantize(qparams.quantize(groups.flatten(1))).reshape(groups.shape)


def _cost(qparams: QuantizationParams, groups: Tensor) -> Tensor:
    return (groups - _values(qparams, groups)).abs().pow(_POWER).sum(-1)
