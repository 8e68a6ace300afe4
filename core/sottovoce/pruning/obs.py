"""Order in which the columns of a weight are removed, and the least squares that makes up for them.

The Optimal Brain Surgeon (Hassibi and Stork, 1993), for whole columns as in ZipLM (arXiv 2302.04089): with the second
moments ``H`` of a layer's inputs, removing the columns ``B`` of its weight ``W`` and adjusting all others optimally
raises the squared error of its outputs by ``tr(W_B inv(inv(H)_BB) W_B^T)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ONE_BY_ONE = 1024
"""Columns up to which they are removed one after another; of more, a batch is removed between two rankings, as in
SlimGPT (arXiv 2412.18110)."""
_RANKINGS = 64
_SHRINK = 0.8
"""Share of columns that are left when the matrices are made smaller."""


@torch.no_grad()
def columns_to_keep(weight: Tensor, hessian: Tensor, keep: int) -> Tensor:
    """Choose the columns that stay, greedily: the one that costs the least is removed, and all are ranked anew.

    Args:
        weight: ``[out, in]``.
        hessian: Damped second moments of the inputs ``[in, in]``.
        keep: Number of columns that stay.

    Returns:
        Their numbers in rising order ``[keep]``.
    """
    columns = weight.shape[1]
    batch = 1 if columns <= _ONE_BY_ONE else max(1, (columns - keep) // _RANKINGS)
    adjusted, inverse = weight.double().clone(), torch.linalg.inv(hessian.double())
    alive = torch.arange(columns, device=weight.device)
    gone = torch.zeros(columns, dtype=torch.bool, device=weight.device)
    left = columns
    while left > keep:
        cost = adjusted.square().sum(0) / inverse.diagonal()
        removed = cost.masked_fill(gone, torch.inf).topk(min(batch, left - keep), largest=False).indices
        # Elimination of the removed columns from the weight and from the inverse, in place: copies would take longer.
        factor = torch.linalg.solve(inverse[removed][:, removed], inverse[removed])
        adjusted.addmm_(adjusted[:, removed], factor, alpha=-1)
        inverse.addmm_(inverse[:, removed], factor, alpha=-1)
        inverse.diagonal()[removed] = 1.0
        gone[removed] = True
        left -= len(removed)
        if left < _SHRINK * len(alive):
            stays = ~gone
            adjusted, inverse, alive = adjusted[:, stays], inverse[stays][:, stays], alive[stays]
            gone = torch.zeros(len(alive), dtype=torch.bool, device=weight.device)
    return alive[~gone]


@torch.no_grad()
def groups_to_keep(weight: Tensor, hessian: Tensor, groups: int, keep: int) -> list[int]:
    """Choose the groups of adjacent columns that stay, greedily, by the error that the best adjustment leaves.

    Args:
        weight: ``[out, in]``; its columns are ``groups`` groups of one size.
        hessian: Damped second moments of the inputs ``[in, in]``.
        groups: Number of groups.
        keep: Number of groups that stay.

    Returns:
        Their numbers in rising order.
    """
    size = weight.shape[1] // groups
    adjusted, inverse = weight.double().clone(), torch.linalg.inv(hessian.double())
    alive = list(range(groups))
    while len(alive) > keep:
        costs = []
        for place in range(len(alive)):
            columns = slice(place * size, (place + 1) * size)
            part = adjusted[:, columns]
            costs.append(float((part * torch.linalg.solve(inverse[columns, columns], part, left=False)).sum()))
        place = min(range(len(alive)), key=costs.__getitem__)
        removed = torch.arange(place * size, (place + 1) * size, device=weight.device)
        stays = torch.ones(len(alive) * size, dtype=torch.bool, device=weight.device)
        stays[removed] = False
        factor = torch.linalg.solve(inverse[removed][:, removed], inverse[removed][:, stays])
        adjusted = adjusted[:, stays] - adjusted[:, removed] @ factor
        inverse = inverse[stays][:, stays] - inverse[stays][:, removed] @ factor
        del alive[place]
    return alive


def damped(moments: Tensor, damp: float) -> Tensor:
    """Return second moments ``[in, in]`` in float64, with a share of their mean diagonal added to the diagonal.

    A layer whose inputs are all zero gets the identity.
    """
    wide = moments.double().clone()
    mean = float(wide.diagonal().mean())
    wide.diagonal().add_(damp * mean if mean > 0 else 1.0)
    return wide


def columns_of(groups: Sequence[int], size: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the numbers of the columns of some groups ``[len(groups) * size]``."""
    starts = torch.tensor(list(groups), device=device, dtype=torch.long)[:, None] * size
    return (starts + torch.arange(size, device=device)).flatten()
