"""SQuant: rounding without data so that the errors of a row cancel each other.

Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation", ICLR 2022,
https://arxiv.org/abs/2202.07471 . What the inputs of a layer have in common, a mean above all, multiplies the sum of a
row's errors. To the nearest step that sum grows with the root of the row's length. Here some weights take the step on
their other side, those that lie nearest to the middle, until every group of inputs sums to half a step at most, and
then every row. A convolution's kernels are the groups of the paper; a linear layer has none, so neighbours are taken
together.
"""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from sottovoce.runtime.qparams import QuantizationParams, row_chunks

GROUP = 32
"""Inputs whose errors cancel each other before those of the row do."""


def squant(weight: Tensor, qparams: QuantizationParams) -> Tensor:
    """Round to one of the two nearest steps.

    Args:
        weight: Float ``[out, in]``.
        qparams: The steps, integers. Where inputs have scales by groups, the errors cancel within those.

    Returns:
        The steps, s8 ``[out, in]``: the sums of their errors are at most half a step for every row with one scale,
        and below one step for each 32 neighbours, but for weights that are clipped.
    """
    if weight.is_meta:
        return qparams.quantize(weight)
    return torch.cat([_rounded(weight[part], qparams.rows(part)) for part in row_chunks(weight)])


def _rounded(weight: Tensor, qparams: QuantizationParams) -> Tensor:
    scale = qparams.scale.reshape(-1, 1)
    exact = weight.float().reshape(len(scale), -1) / scale
    if qparams.zero_point is not None:
        exact += qparams.zero_point.reshape(-1, 1)
    # A clipped weight has no error then, and is never moved: it has no step on its other side.
    steps = exact.clamp_(qparams.scheme.lowest, qparams.scheme.highest).round()
    # Nor do the zeros at the end.
    errors = torch.nn.functional.pad(steps - exact, (0, -exact.shape[1] % GROUP)).view(len(scale), -1, GROUP)
    moves = _in_groups(errors)
    moves += _in_rows(errors + moves)
    steps += moves.view(len(scale), -1)[:, : steps.shape[1]]
    return steps.to(torch.int8).view(weight.shape)


def _in_groups(errors: Tensor) -> Tensor:
    """Moves, -1 to 1, of as many weights of every group ``[rows, groups, size]`` as bring its sum under half a step."""
    total = errors.sum(-1, keepdim=True)
    return _largest(_gain(errors, total), total) * -total.sign()


def _in_rows(errors: Tensor) -> Tensor:
    """Moves of one weight in as many groups as bring the sum of their row under half a step."""
    sums = errors.sum(-1)
    total = sums.sum(-1, keepdim=True)
    gain, place = _gain(errors, total[..., None]).max(-1)
    # Groups that are furthest on the row's side end nearest to zero.
    chosen = _largest(torch.where(gain > 0, sums * total.sign(), 0).clamp_(min=0), total)
    return torch.zeros_like(errors).scatter_(-1, place[..., None], (chosen * -total.sign())[..., None])


def _gain(errors: Tensor, total: Tensor) -> Tensor:
    """How far a weight lies from its step, on the side from which a move brings ``total`` down; zero on the other."""
    return (errors * total.sign()).clamp_(min=0)


def _largest(values: Tensor, total: Tensor) -> Tensor:
    """Which of the ``values`` along the last axis are the largest, positive, as many as ``total`` has whole steps."""
    size, count = values.shape[-1], total.abs().round_().long()
    # A positive float32 orders as its bits do; a place in the last few makes all of them different.
    low = max(1, size - 1).bit_length()
    places = torch.arange(size, dtype=torch.int32, device=values.device)
    keys = (values.view(torch.int32) >> low << low) | places
    least = _sorted(keys).gather(-1, (size - count).clamp_(0, size - 1))
    return (keys >= least) & (values > 0) & (count > 0)


def _sorted(keys: Tensor) -> Tensor:
    # On the processor NumPy sorts short rows by vector instructions, in an eighth of the time.
    return torch.from_numpy(numpy.sort(keys.numpy(), -1)) if keys.device.type == "cpu" else keys.sort(-1).values
