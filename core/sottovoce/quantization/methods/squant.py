"""SQuant: rounding without samples so that the errors of a row cancel out.

Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", ICLR 2022,
https://arxiv.org/abs/2202.07471 . What the inputs of a layer have in common, a mean above all, multiplies the sum of a
row's errors. With rounding to nearest that sum grows with the root of the row's length. Here the weights nearest to the
middle between two values take the other one, until the errors of every group of inputs sum to half a scale at most, and
then those of every row. A convolution's kernels are the groups of the paper; a linear layer has none, so neighbours are
taken together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sottovoce.quantization.method import Method, method
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.runtime.qparams import QuantizationParams

GROUP = 32
"""Inputs whose errors cancel out before those of the row do."""


@method("squant")
class SQuant(Method):
    """Options of SQuant: none."""

    label = Text(en="SQuant", zh="SQuant")
    description = Text(
        en="Weights are rounded up or down so that the errors of a row cancel out; needs no samples.",
        zh="选择每个权重向上或向下舍入,使一行的误差相互抵消;不需要样本。",
    )

    def quantize(self, weight: Tensor, qparams: QuantizationParams, hessian: Tensor | None) -> Tensor:
        """Round a weight by :func:`squant`."""
        return squant(weight, qparams)


def squant(weight: Tensor, qparams: QuantizationParams) -> Tensor:
    """Round every weight to one of its two nearest quantized values.

    Args:
        weight: Float ``[out, in]``.
        qparams: Scale and zero point of every group, integers. With several groups a row, errors cancel within each.

    Returns:
        Quantized values, int8 ``[out, in]``: their errors sum to at most half a scale for every row with one scale,
        and to less than one for each 32 neighbours, but for weights that are clipped.
    """
    import torch

    from sottovoce.runtime.qparams import row_chunks

    return torch.cat([_rounded(weight[part], qparams.rows(part)) for part in row_chunks(weight)])


def _rounded(weight: Tensor, qparams: QuantizationParams) -> Tensor:
    import torch

    scale = qparams.scale.reshape(-1, 1)
    exact = weight.float().reshape(len(scale), -1) / scale
    if qparams.zero_point is not None:
        exact += qparams.zero_point.reshape(-1, 1)
    # A clipped weight has no error then, and is never moved: it has no value on its other side.
    quantized = exact.clamp_(qparams.scheme.lowest, qparams.scheme.highest).round()
    # Nor do the zeros at the end.
    errors = torch.nn.functional.pad(quantized - exact, (0, -exact.shape[1] % GROUP)).view(len(scale), -1, GROUP)
    moves = _in_groups(errors)
    moves += _in_rows(errors + moves)
    quantized += moves.view(len(scale), -1)[:, : quantized.shape[1]]
    return quantized.to(torch.int8).view(weight.shape)


def _in_groups(errors: Tensor) -> Tensor:
    """Return moves, -1 to 1, of as few weights of a group ``[rows, groups, size]`` as bring its sum under a half."""
    total = errors.sum(-1, keepdim=True)
    return _largest(_gain(errors, total), total) * -total.sign()


def _in_rows(errors: Tensor) -> Tensor:
    """Return moves of one weight in as few groups as bring the sum of their row under a half."""
    import torch

    sums = errors.sum(-1)
    total = sums.sum(-1, keepdim=True)
    gain, place = _gain(errors, total[..., None]).max(-1)
    # Groups that are furthest on the row's side end nearest to zero.
    chosen = _largest(torch.where(gain > 0, sums * total.sign(), 0).clamp_(min=0), total)
    return torch.zeros_like(errors).scatter_(-1, place[..., None], (chosen * -total.sign())[..., None])


def _gain(errors: Tensor, total: Tensor) -> Tensor:
    """Return the distance of a weight to its value where a move brings ``total`` down; zero elsewhere."""
    return (errors * total.sign()).clamp_(min=0)


def _largest(values: Tensor, total: Tensor) -> Tensor:
    """Return true for the largest positive ``values`` along the last axis, as many as ``total`` has whole units."""
    import torch

    size, count = values.shape[-1], total.abs().round_().long()
    # A positive float32 orders as its bits do; a place in the last few makes all of them different.
    low = max(1, size - 1).bit_length()
    places = torch.arange(size, dtype=torch.int32, device=values.device)
    keys = (values.view(torch.int32) >> low << low) | places
    least = _sorted(keys).gather(-1, (size - count).clamp_(0, size - 1))
    return (keys >= least) & (values > 0) & (count > 0)


def _sorted(keys: Tensor) -> Tensor:
    import numpy
    import torch

    # On the processor NumPy sorts short rows by vector instructions, in an eighth of the time.
    return torch.from_numpy(numpy.sort(keys.numpy(), -1)) if keys.device.type == "cpu" else keys.sort(-1).values
