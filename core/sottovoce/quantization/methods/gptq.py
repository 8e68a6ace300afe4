"""GPTQ: each rounded column's error is made up for by the columns that are not rounded yet.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
https://arxiv.org/abs/2210.17323 (equations 2 to 4); the order of the columns by their second moments ("act-order") is
from the authors' code. The same steps are found without the inverse of the Hessian, from a factor of itself: Chee et
al., "QuIP: 2-Bit Quantization of Large Language Models With Guarantees", https://arxiv.org/abs/2307.13304 (theorem 6).
With the Hessian as ``N D N^T``, ``N`` unit triangular, a column is rounded after the errors of those before were added
to it by its column of ``N``. That is half the arithmetic of an inverse and its factor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.recipe.recipe import GPTQ
from sottovoce.runtime.qparams import QuantizationParams

_MOST_DAMPING = 1.0


def gptq(weight: Tensor, hessian: Tensor, qparams: QuantizationParams, options: GPTQ) -> Tensor:
    """Round a weight so that its output error on the calibration inputs is small.

    The qparams was chosen from the weight as it is now, so the columns may be rounded in any order and groups need no
    index.

    Args:
        weight: Float ``[out, in]``; left as it is.
        hessian: Second moments of the inputs ``[in, in]``.
        qparams: The steps that it is rounded to.
        options: Damping, block size and order.

    Returns:
        The steps ``[out, in]``.

    Raises:
        ArithmeticError: The moments have no factor, however much they are damped.
    """
    # The last is rounded first, since a lower factor passes errors on to what lies before.
    order = torch.arange(weight.shape[1], device=weight.device)
    if options.act_order:
        order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    order = order.flip(0)
    factor = unit_factor(hessian, order, options.damping)
    # Transposed, so that what is worked on lies together. A column becomes its error when it is rounded.
    errors = weight.t().contiguous().index_select(0, order).float()
    columns = _Columns(qparams, order)
    for end in range(len(order), 0, -options.block_size):
        start = max(end - options.block_size, 0)
        wanted = torch.addmm(errors[start:end], factor[end:, start:end].t(), errors[end:])
        for last in range(end, start, -_TOGETHER):
            first = max(last - _TOGETHER, start)
            some = wanted[first - start : last - start]
            some.addmm_(factor[last:end, first:last].t(), errors[last:end])
            columns.round_(first, some, errors[first:last], factor[first:last, first:last])
    return columns.steps.t().contiguous()


_TOGETHER = 16
"""Columns between which errors are carried one by one."""


class _Columns:
    """The qparams of the columns, each a row here, and the steps that they are rounded to.

    A column is so short that a call takes longer than its arithmetic: there is one place for all, and few calls.
    """

    def __init__(self, qparams: QuantizationParams, order: Tensor) -> None:
        self._scheme, self._order = qparams.scheme, order
        size = qparams.scheme.group_size
        group = (order // size if size else torch.zeros_like(order)).tolist()
        scales = qparams.scale.float().t().contiguous().unbind(0)
        self._scales = [scales[number] for number in group]
        self._zero_points: list[Tensor] | None = None
        if qparams.zero_point is not None:
            zero_points = qparams.zero_point.float().t().contiguous().unbind(0)
            self._zero_points = [zero_points[number] for number in group]
        out, device = len(qparams.scale), qparams.scale.device
        self._rounded = torch.empty(_TOGETHER, out, device=device)
        self.steps = torch.empty(len(order), out, dtype=torch.int8, device=device)
        """``[in, out]``, in the weight's own order."""

    def round_(self, first: int, wanted: Tensor, errors: Tensor, factor: Tensor) -> None:
        """Round some columns one after another, each after it took its share of the errors of those after it.

        Args:
            first: Number of the first.
            wanted: What they are rounded from ``[columns, out]``, changed.
            errors: The columns as they were; becomes what they lost.
            factor: The part of the factor that is theirs ``[columns, columns]``.
        """
        lowest, highest = self._scheme.lowest, self._scheme.highest
        rounded = self._rounded[: len(wanted)]
        each = zip(wanted.unbind(0), rounded.unbind(0), errors.unbind(0), factor.unbind(0), strict=True)
        for place, (column, steps, error, carried) in reversed(list(enumerate(each))):
            scale = self._scales[first + place]
            torch.div(column, scale, out=steps).round_()
            if self._zero_points is None:
                error.addcmul_(steps.clamp_(lowest, highest), scale, value=-1)
            else:
                zero_point = self._zero_points[first + place]
                steps.add_(zero_point).clamp_(lowest, highest)
                error.addcmul_(steps - zero_point, scale, value=-1)
            if place:
                wanted[:place].addr_(carried[:place], error)
        self.steps.index_copy_(0, self._order[first : first + len(wanted)], rounded.to(torch.int8))


def unit_factor(hessian: Tensor, order: Tensor, damping: float) -> Tensor:
    """``N`` of the damped Hessian ``N D N^T`` ``[in, in]`` in the order given; only what is below its diagonal counts.

    ``damping`` is a share of the mean diagonal; it is raised tenfold as long as the matrix has no factor. An input that
    was always zero gets the mean too, so that its weights are rounded and nothing is made up for.

    Raises:
        ArithmeticError: It has none even when damped by the mean itself.
    """
    diagonal = hessian.diagonal()[order]
    mean = float(diagonal.mean()) or 1.0
    diagonal[diagonal == 0] = mean
    while True:
        factor = hessian.index_select(0, order).index_select(1, order)
        factor.diagonal().copy_(diagonal + damping * mean)
        if _factor_(factor):
            return factor.div_(factor.diagonal().clone())
        if damping >= _MOST_DAMPING:
            raise ArithmeticError("the second moments of the inputs cannot be inverted")
        damping = min(10 * max(damping, 1e-4), _MOST_DAMPING)


_SMALL = 512


def _factor_(matrix: Tensor) -> bool:
    """Put the lower Cholesky factor of a matrix in its place, and say whether it has one; above it nothing is meant.

    By halves nearly all of the work is products: half the time of LAPACK's.
    """
    size = len(matrix)
    if size <= _SMALL:
        lower, failed = torch.linalg.cholesky_ex(matrix)
        matrix.copy_(lower)
        return not failed.item()
    half = size // 2
    above, below, rest = matrix[:half, :half], matrix[half:, :half], matrix[half:, half:]
    if not _factor_(above):
        return False
    below.copy_(torch.linalg.solve_triangular(above.t(), below, upper=True, left=False))
    return _factor_(rest.addmm_(below, below.t(), alpha=-1))
