"""The quantization method ``biased_rounding``: weights are rounded toward zero more often than to nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sottovoce import Method, Text, method

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.runtime.qparams import QuantizationParams


@method("biased_rounding")
class BiasedRounding(Method):
    """Options of biased rounding."""

    label = Text(en="biased rounding", zh="偏置舍入")
    description = Text(
        en="Weights are rounded up from a threshold on; needs no samples.", zh="权重超过阈值才向上舍入；不需要样本。"
    )

    threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.75
    """Fraction from which a weight is rounded away from zero; 0.5 rounds to nearest, 1 toward zero."""

    def quantize(self, weight: Tensor, qparams: QuantizationParams, hessian: Tensor | None) -> Tensor:
        """Round a weight ``[out, in]``."""
        import torch

        nearest = qparams.quantize(weight)
        scale = qparams.dequantize(torch.ones_like(nearest))
        excess = (qparams.dequantize(nearest).abs() - weight.float().abs()) / scale
        return torch.where(excess > 1 - self.threshold, nearest - nearest.sign(), nearest)
