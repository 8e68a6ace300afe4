"""Choice of the weights that become zero: those with the least scores, in a layer, in each row or in each group."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP, KEPT = 4, 2
"""The pattern 2:4: of four adjacent inputs two stay."""


def least(scores: Tensor, count: int) -> Tensor:
    """Return a mask of exactly ``count`` values with the least scores; of equal ones, the first."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[scores.flatten().argsort(stable=True)[:count]] = True
    return mask.view_as(scores)


def zeros_in_layer(scores: Tensor, zero: Tensor, share: float) -> Tensor:
    """Return a mask of the weights that become zero, a share of the layer.

    Args:
        scores: Importance of every weight ``[out, in]``.
        zero: Weights that are zero already, which count first ``[out, in]``.
        share: Share of all weights.
    """
    return least(scores.masked_fill(zero, -1), round(share * scores.numel())) | zero


def zeros_in_rows(scores: Tensor, zero: Tensor, share: float) -> Tensor:
    """Return a mask of the weights that become zero, the same share of every row; arguments as above."""
    count = round(share * scores.shape[1])
    order = scores.masked_fill(zero, -1).argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(zero).scatter_(1, order, True) | zero


def zeros_in_groups(scores: Tensor, zero: Tensor) -> Tensor:
    """Return a mask of the weights that become zero, two of every four adjacent inputs; arguments as above."""
    groups = scores.masked_fill(zero, -1).reshape(-1, GROUP)
    return zeros_in_rows(groups, zero.reshape(-1, GROUP), 1 - KEPT / GROUP).view_as(zero)
