"""HQQ, half-quadratic quantization: scales and zero points for which a few weights may err more.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023,
https://mobiusml.github.io/hqq_blog/ . The error is measured by the sum of its magnitudes to the power 0.7, which
outliers hardly raise. It is split off by a shrinkage step; for what is left the best scale (and zero point, when the
scheme has one) is known in closed form. Zero points stay whole numbers here, since they are stored so; the authors keep
them as floats and leave the scale as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.quantization.method import Method, method
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sottovoce.recipe.scheme import Scheme
    from sottovoce.runtime.qparams import QuantizationParams

_POWER, _FIRST_WEIGHT, _GROWTH, _ITERATIONS = 0.7, 10.0, 1.01, 20
_TINY = 1e-8


@method("hqq")
class HQQ(Method):
    """Options of HQQ: none."""

    label = Text(en="HQQ", zh="HQQ")
    description = Text(
        en="Scales and zero points are optimized for an error that outliers hardly raise; needs no samples.",
        zh="按对离群值不敏感的误差优化缩放因子和零点;不需要样本。",
    )

    def compute_qparams(self, weight: Tensor, scheme: Scheme, *, search: bool) -> QuantizationParams:
        """Choose scales and zero points by :func:`hqq`, whatever range a recipe asks for."""
        return hqq(weight, scheme)


def hqq(weight: Tensor, scheme: Scheme) -> QuantizationParams:
    """Optimize the scale and zero point of every group.

    Args:
        weight: Float ``[out, in]``.
        scheme: Bits, group size and symmetry; integers.

    Returns:
        For every group the best of all iterations, the first one included.
    """
    import torch

    from sottovoce.runtime.qparams import compute_qparams, merge

    qparams = best = compute_qparams(weight, scheme)
    groups = weight.float().reshape(weight.shape[0], best.scale.shape[1], -1)
    spread = groups.std(-1, correction=0, keepdim=True).clamp(min=_TINY)
    least, weight_of_split = _cost(qparams, groups), _FIRST_WEIGHT
    for _ in range(_ITERATIONS):
        residual = (groups - _dequantized(qparams, groups)) / spread
        target = groups - _shrink(residual, weight_of_split) * spread
        qparams = _fit(qparams, target, weight.dtype)
        cost = _cost(qparams, groups)
        best = merge(cost < least, qparams, best)
        least, weight_of_split = torch.minimum(cost, least), weight_of_split * _GROWTH
    return best


def _shrink(residual: Tensor, weight_of_split: float) -> Tensor:
    """Apply the generalized soft threshold of the power's proximal step."""
    magnitude = residual.abs()
    threshold = magnitude.clamp(min=_TINY).pow(_POWER - 1) / weight_of_split
    return residual.sign() * (magnitude - threshold).clamp(min=0)


def _fit(qparams: QuantizationParams, target: Tensor, dtype: torch.dtype) -> QuantizationParams:
    """Compute the scale and zero point with the least squared error of ``target``, for its quantized values now."""
    import torch

    from sottovoce.runtime.qparams import QuantizationParams, stored_scale

    quantized = qparams.quantize(target.flatten(1)).float().reshape(target.shape)
    zero_point = qparams.zero_point
    if zero_point is not None:
        scheme = qparams.scheme
        moved = (quantized - target / qparams.scale[..., None]).mean(-1)
        zero_point = moved.round_().clamp_(scheme.lowest, scheme.highest)
        quantized = quantized - zero_point[..., None]
    power = quantized.square().sum(-1)
    scale = torch.where(power > 0, (quantized * target).sum(-1) / power.clamp(min=1), qparams.scale)
    scale = torch.where(scale > _TINY, scale, qparams.scale)
    return QuantizationParams(qparams.scheme, stored_scale(scale, qparams.scheme, dtype), zero_point)


def _dequantized(qparams: QuantizationParams, groups: Tensor) -> Tensor:
    return qparams.dequantize(qparams.quantize(groups.flatten(1))).reshape(groups.shape)


def _cost(qparams: QuantizationParams, groups: Tensor) -> Tensor:
    return (groups - _dequantized(qparams, groups)).abs().pow(_POWER).sum(-1)
