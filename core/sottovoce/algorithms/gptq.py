"""GPTQ: each rounded column's error is made up for by the columns that are not rounded yet.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
https://arxiv.org/abs/2210.17323 (equations 2 to 4, algorithm 1); the order of the columns by their second moments
("act-order") is from the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.formats.grid import Grid
from sottovoce.recipe import GPTQ

_MOST_DAMPING = 1.0


def gptq(weight: Tensor, hessian: Tensor, grid: Grid, options: GPTQ) -> Tensor:
    """Round a weight so that its output error on the calibration inputs is small.

    The grid was chosen from the weight as it is now, so the columns may be rounded in any order and groups need no
    index.

    Args:
        weight: Float ``[out, in]``; left as it is.
        hessian: Second moments of the inputs ``[in, in]``.
        grid: The steps that it is rounded to.
        options: Damping, block size and order.

    Returns:
        The steps ``[out, in]``.
    """
    order = torch.arange(weight.shape[1], device=weight.device)
    if options.act_order:
        order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    remaining = weight.float()[:, order].clone()
    factor = inverse_factor(hessian[order[:, None], order], options.damping)
    steps = torch.empty_like(remaining, dtype=torch.int8)
    for start in range(0, len(order), options.block_size):
        end = min(start + options.block_size, len(order))
        errors = torch.empty_like(remaining[:, start:end])
        for index in range(start, end):
            column = remaining[:, index : index + 1]
            step_grid = grid.column(int(order[index]))
            steps[:, index : index + 1] = rounded = step_grid.round(column)
            error = (column - step_grid.values(rounded)) / factor[index, index]
            remaining[:, index:end] -= error @ factor[index : index + 1, index:end]
            errors[:, index - start : index - start + 1] = error
        remaining[:, end:] -= errors @ factor[start:end, end:]
    return steps[:, torch.argsort(order)]


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped Hessian ``[in, in]``.

    ``damping`` is a share of the mean diagonal; it is raised tenfold as long as the matrix has no factor. An input that
    was always zero gets the mean too, so that its weights are rounded and nothing is made up for.
    """
    hessian = hessian.clone()
    diagonal = hessian.diagonal().clone()
    mean = float(diagonal.mean()) or 1.0
    diagonal[diagonal == 0] = mean
    while True:
        hessian.diagonal().copy_(diagonal + damping * mean)
        lower, failed = torch.linalg.cholesky_ex(hessian)
        if not failed.item():
            # One matrix after another: for wide layers each is a good part of the memory that is taken.
            inverse = torch.cholesky_inverse(lower)
            del lower
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed.item():
                return torch.as_tensor(upper)
        if damping >= _MOST_DAMPING:
            raise ArithmeticError("the second moments of the inputs cannot be inverted")
        damping = min(10 * max(damping, 1e-4), _MOST_DAMPING)
