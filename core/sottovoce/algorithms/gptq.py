"""GPTQ: each rounded column's error is made up for by the columns that are not rounded yet.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
https://arxiv.org/abs/2210.17323 (equations 2 to 4, algorithm 1); the order of the columns by their second moments
("act-order") is from the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.formats.grid import Grid
from sottovoce.formats.onednn import matmul_transposed
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
    # Transposed, so that what is worked on lies together.
    remaining = weight.t().contiguous().index_select(0, order).float()
    columns = _Columns(grid, order)
    factor = inverse_factor(hessian[order[:, None], order], options.damping)
    steps = torch.empty_like(remaining, dtype=torch.int8)
    for start in range(0, len(order), options.block_size):
        end = min(start + options.block_size, len(order))
        errors = torch.empty_like(remaining[start:end])
        for first in range(start, end, _TOGETHER):
            last = min(first + _TOGETHER, end)
            _round_(remaining, steps, errors[first - start : last - start], factor, columns, first)
            # Errors are carried to the rest of the block, and then of the matrix, by products.
            remaining[last:end].addmm_(factor[first:last, last:end].t(), errors[first - start : last - start], alpha=-1)
        remaining[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)
    return steps[torch.argsort(order)].t().contiguous()


_TOGETHER = 16
"""Columns between which errors are carried one by one."""


class _Columns:
    """The grid of every column, in the order in which they are rounded."""

    def __init__(self, grid: Grid, order: Tensor) -> None:
        size = grid.scheme.group_size
        group = order // size if size else torch.zeros_like(order)
        self.scheme = grid.scheme
        self.scale = grid.scale.float().t()[group]
        self.zero_point = None if grid.zero_point is None else grid.zero_point.float().t()[group]
        # One place for all columns: their products are so small that taking memory would be a part of the time.
        self.work = torch.empty(2, grid.scale.shape[0], device=grid.scale.device).unbind(0)

    def round(self, index: int, column: Tensor) -> tuple[Tensor, Tensor]:
        """The steps of a column ``[out]`` as floats, and what they stand for; read them before the next call."""
        scale, rounded = self.scale[index], self.work[0]
        torch.div(column, scale, out=rounded).round_()
        if self.zero_point is None:
            rounded.clamp_(self.scheme.lowest, self.scheme.highest)
            return rounded, torch.mul(rounded, scale, out=self.work[1])
        rounded.add_(self.zero_point[index]).clamp_(self.scheme.lowest, self.scheme.highest)
        return rounded, (rounded - self.zero_point[index]) * scale


def _round_(remaining: Tensor, steps: Tensor, errors: Tensor, factor: Tensor, columns: _Columns, first: int) -> None:
    """Round some columns one after another, each after it took its share of the errors of those before."""
    last = first + len(errors)
    shares = [1 / each for each in factor.diagonal()[first:last].tolist()]
    for place, index in enumerate(range(first, last)):
        column = remaining[index]
        rounded, values = columns.round(index, column)
        steps[index] = rounded
        error = torch.sub(column, values, out=errors[place])
        error *= shares[place]
        if index + 1 < last:
            remaining[index + 1 : last].addr_(factor[index, index + 1 : last], error, alpha=-1)


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
        # Of the matrix turned about both axes: the inverse of its factor, turned back, is the factor of the inverse.
        inverse = _inverse_of_factor(hessian.flip((0, 1)))
        if inverse is not None:
            return inverse.flip((0, 1))
        if damping >= _MOST_DAMPING:
            raise ArithmeticError("the second moments of the inputs cannot be inverted")
        damping = min(10 * max(damping, 1e-4), _MOST_DAMPING)


_SMALL = 256


def _inverse_of_factor(matrix: Tensor) -> Tensor | None:
    """The inverse of the lower Cholesky factor of a matrix; ``None`` where it has none.

    Factor and inverse are made together, by halves: nearly all of the work is products, which takes half the
    time of LAPACK's factor and the inverse of that.
    """
    size = len(matrix)
    if size <= _SMALL:
        lower, failed = torch.linalg.cholesky_ex(matrix)
        unit = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
        return None if failed.item() else torch.as_tensor(torch.linalg.solve_triangular(lower, unit, upper=False))
    half = size // 2
    if (first := _inverse_of_factor(matrix[:half, :half])) is None:
        return None
    below = matmul_transposed(matrix[half:, :half], first)
    if (second := _inverse_of_factor(matrix[half:, half:] - matmul_transposed(below, below))) is None:
        return None
    made = torch.zeros_like(matrix)
    made[:half, :half], made[half:, half:] = first, second
    made[half:, :half] = -(second @ (below @ first))
    return made
