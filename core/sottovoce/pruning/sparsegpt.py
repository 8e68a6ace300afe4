"""SparseGPT: the error of each weight that becomes zero is compensated by the inputs that follow.

Frantar & Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
https://arxiv.org/abs/2301.00774 (algorithm 1). The zeros of a block of columns are chosen when it is reached, by the
weights as they are then; errors are carried to the columns after a block at its end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.pruning.zeros import GROUP, least, zeros_in_groups

BLOCK = 128
"""Columns whose zeros are chosen together."""
_MOST_DAMPING = 1.0


def inverse_factor(moments: Tensor, damp: float) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped moments ``[in, in]``.

    Args:
        moments: Second moments of the inputs ``[in, in]``.
        damp: Share of their mean diagonal that is added to it; raised tenfold as long as there is no inverse.

    Raises:
        ArithmeticError: There is none even when damped by the mean itself.
    """
    mean = float(moments.diagonal().mean()) or 1.0
    while True:
        damped = moments.clone()
        damped.diagonal().add_(damp * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed.item():
            upper: Tensor
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed.item():
                return upper
        if damp >= _MOST_DAMPING:
            raise ArithmeticError("the second moments of the inputs cannot be inverted")
        damp = min(10 * damp, _MOST_DAMPING)


def sparsegpt(weight: Tensor, factor: Tensor, share: float | None, block_size: int = BLOCK) -> Tensor:
    """Return a weight with zeros, and with other values that make up for them.

    Args:
        weight: Float32 ``[out, in]``; left as it is. What is zero stays zero, and counts.
        factor: As from :func:`inverse_factor`.
        share: Share of zeros in the layer; ``None`` for two of every four adjacent inputs.
        block_size: Columns whose zeros are chosen together; a multiple of four.
    """
    weight, zero = weight.clone(), weight == 0
    counts = _new_zeros(zero, share, block_size)
    for number, start in enumerate(range(0, weight.shape[1], block_size)):
        part = slice(start, min(start + block_size, weight.shape[1]))
        errors = _prune_block_(weight[:, part], factor[part, part], zero[:, part], counts[number])
        weight[:, part.stop :] -= errors @ factor[part, part.stop :]
    return weight


def _new_zeros(zero: Tensor, share: float | None, block_size: int) -> list[int | None]:
    """Return how many weights of each block are zero in the end; the new ones are as many of the others in each."""
    parts = [zero[:, start : start + block_size] for start in range(0, zero.shape[1], block_size)]
    before = [int(part.sum()) for part in parts]
    if share is None:
        return [None] * len(before)
    free = [part.numel() - count for part, count in zip(parts, before, strict=True)]
    new, total = max(round(share * zero.numel()) - sum(before), 0), max(sum(free), 1)
    ends = [new * sum(free[: number + 1]) // total for number in range(len(free))]
    return [count + end - begin for count, end, begin in zip(before, ends, [0, *ends], strict=False)]


def _prune_block_(weight: Tensor, factor: Tensor, zero: Tensor, count: int | None) -> Tensor:
    """Prune a block of columns in place; return the errors by which the columns after it change ``[out, columns]``."""
    errors, diagonal = torch.empty_like(weight), factor.diagonal()
    mask = zero if count is None else least(((weight / diagonal) ** 2).masked_fill(zero, -1), count)
    for column in range(weight.shape[1]):
        if count is None and column % GROUP == 0:
            group = slice(column, column + GROUP)
            chosen = zeros_in_groups((weight[:, group] / diagonal[group]) ** 2, zero[:, group])
            mask = torch.cat((mask[:, :column], chosen, mask[:, group.stop :]), 1)
        errors[:, column] = weight[:, column].where(mask[:, column], 0) / diagonal[column]
        weight[:, column].masked_fill_(mask[:, column], 0)
        weight[:, column + 1 :].addr_(errors[:, column], factor[column, column + 1 :], alpha=-1)
    return errors
