"""GPTQ: the error of each rounded column is compensated by the columns that are not rounded yet.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
https://arxiv.org/abs/2210.17323 (equations 2 to 4); the order of the columns by their second moments ("act-order") is
from the authors' code. The same values follow without the inverse of the Hessian, from a factor of itself: Chee et
al., "QuIP: 2-Bit Quantization of Large Language Models With Guarantees", https://arxiv.org/abs/2307.13304 (theorem 6).
With the Hessian as ``N D N^T``, ``N`` unit triangular, a column is rounded after the errors of the columns before it
were added, weighted by its column of ``N``. That is half the arithmetic of an inverse and its factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sottovoce.quantization.method import Method, method
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.runtime.qparams import QuantizationParams

_MOST_DAMPING = 1.0


@method("gptq")
class GPTQ(Method):
    """Options of GPTQ."""

    label = Text(en="GPTQ", zh="GPTQ")
    description = Text(
        en="The error of each rounded column is compensated by the columns that follow; needs samples.",
        zh="每一列舍入的误差由其后的列补偿;需要样本。",
    )
    needs_samples = True

    damping: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the mean second moment that is added to the diagonal."""
    block_size: Annotated[int, Field(ge=1)] = 128
    """Number of columns after which errors are carried to all columns that follow."""
    act_order: bool = True
    """If true, columns with larger inputs are rounded first."""
    true_sequential: bool = True
    """If true, a layer is calibrated on what the quantized layers before it in its block give; otherwise on what
    quantized blocks before its block give."""

    @property
    def sequential(self) -> bool:
        """If true, a layer is quantized after the layers of its block that run before it."""
        return self.true_sequential

    def quantize(self, weight: Tensor, qparams: QuantizationParams, hessian: Tensor | None) -> Tensor:
        """Round a weight by :func:`gptq`; to nearest without samples."""
        return qparams.quantize(weight) if hessian is None else gptq(weight, hessian, qparams, self)


def gptq(weight: Tensor, hessian: Tensor, qparams: QuantizationParams, options: GPTQ) -> Tensor:
    """Round a weight so that its output error on the calibration inputs is small.

    The scales were chosen from the weight as it is now, so the columns may be rounded in any order and groups need no
    index.

    Args:
        weight: Float ``[out, in]``; left as it is.
        hessian: Second moments of the inputs ``[in, in]``.
        qparams: Scale and zero point of every group.
        options: Damping, block size and order.

    Returns:
        Quantized values, int8 ``[out, in]``.

    Raises:
        ArithmeticError: The moments have no factor, however much they are damped.
    """
    import torch

    # The last is rounded first, since a lower factor passes errors on to what lies before.
    order = torch.arange(weight.shape[1], device=weight.device)
    if options.act_order:
        order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    order = order.flip(0)
    factor = unit_factor(hessian, order, options.damping)
    # Transposed, so that a column is contiguous. A column becomes its error when it is rounded.
    errors = weight.t().contiguous().index_select(0, order).float()
    columns = _Columns(qparams, order)
    for end in range(len(order), 0, -options.block_size):
        start = max(end - options.block_size, 0)
        block = torch.addmm(errors[start:end], factor[end:, start:end].t(), errors[end:])
        for last in range(end, start, -_TOGETHER):
            first = max(last - _TOGETHER, start)
            columns_to_round = block[first - start : last - start]
            columns_to_round.addmm_(factor[last:end, first:last].t(), errors[last:end])
            columns.quantize(first, columns_to_round, errors[first:last], factor[first:last, first:last])
    return columns.quantized.t().contiguous()


_TOGETHER = 16
"""Columns between which errors are carried one by one."""


class _Columns:
    """Scales of the columns, each a row here, and the values that they are rounded to.

    A column is so short that a call takes longer than its arithmetic: memory is taken once, and calls are few.
    """

    def __init__(self, qparams: QuantizationParams, order: Tensor) -> None:
        import torch

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
        self._buffer = torch.empty(_TOGETHER, out, device=device)
        self.quantized = torch.empty(len(order), out, dtype=torch.int8, device=device)
        """``[in, out]``, in the weight's own order."""

    def quantize(self, first: int, columns: Tensor, errors: Tensor, factor: Tensor) -> None:
        """Round columns one after another, each after it took its share of the errors of those after it.

        Args:
            first: Number of the first column.
            columns: Values to round ``[columns, out]``, changed.
            errors: The columns as they were; replaced by their errors.
            factor: Their part of the factor ``[columns, columns]``.
        """
        import torch

        lowest, highest = self._scheme.lowest, self._scheme.highest
        buffer = self._buffer[: len(columns)]
        rows = zip(columns.unbind(0), buffer.unbind(0), errors.unbind(0), factor.unbind(0), strict=True)
        for place, (column, quantized, error, weights) in reversed(list(enumerate(rows))):
            scale = self._scales[first + place]
            torch.div(column, scale, out=quantized).round_()
            if self._zero_points is None:
                error.addcmul_(quantized.clamp_(lowest, highest), scale, value=-1)
            else:
                zero_point = self._zero_points[first + place]
                quantized.add_(zero_point).clamp_(lowest, highest)
                error.addcmul_(quantized - zero_point, scale, value=-1)
            if place:
                columns[:place].addr_(weights[:place], error)
        self.quantized.index_copy_(0, self._order[first : first + len(columns)], buffer.to(torch.int8))


def unit_factor(hessian: Tensor, order: Tensor, damping: float) -> Tensor:
    """Return ``N`` of the damped Hessian ``N D N^T`` ``[in, in]`` in this order; only its lower triangle counts.

    ``damping`` is a share of the mean diagonal; it is raised tenfold as long as the matrix has no factor. An input that
    was always zero gets the mean too, so that its weights are rounded to nearest.

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
    """Replace a matrix by its lower Cholesky factor, return whether it has one; the upper triangle is undefined.

    By halves nearly all of the work is products: half the time of LAPACK's.
    """
    import torch

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
