"""GPTAQ: GPTQ towards the outputs that a layer had before the layers ahead of it were quantized.

Li et al., "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration",
https://arxiv.org/abs/2504.02692 . With ``X`` the inputs of a layer in the original model and ``Y`` those that reach it
now, ``|Q Y - W X|^2`` is ``|(Q - V) Y|^2`` and a constant, where ``V = W X Y^T (Y Y^T)^-1``. So GPTQ rounds ``V`` in
place of ``W``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from sottovoce.quantization.method import method
from sottovoce.quantization.methods.gptq import GPTQ
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from torch import Tensor


@method("gptaq")
class GPTAQ(GPTQ):
    """Options of GPTAQ: those of GPTQ, and how much of the drift is taken up."""

    label = Text(en="GPTAQ", zh="GPTAQ")
    description = Text(
        en="As GPTQ, and each layer also makes up for the errors of the layers before it; needs samples.",
        zh="同 GPTQ,且每一层还补偿其前各层的误差;需要样本。",
    )
    follows_original = True

    alpha: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the drift that is taken up."""
    drift_damping: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the mean second moment that is added to the diagonal, where the drift is taken up."""

    @property
    def without_original(self) -> GPTQ:
        """GPTQ, with the options that both have."""
        return GPTQ(**{name: getattr(self, name) for name in GPTQ.model_fields})

    def correct(self, weight: Tensor, hessian: Tensor, drift: Tensor) -> Tensor:
        """Return the weight whose outputs are nearest to those of before, for the inputs that reach the layer now."""
        import torch

        damped = hessian.clone()
        damped.diagonal().add_(self.drift_damping * (float(hessian.diagonal().mean()) or 1.0))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed.item():
            raise ArithmeticError("the second moments of the inputs cannot be inverted")
        change = torch.cholesky_solve(drift.t(), factor).t()
        return torch.add(weight.float(), change, alpha=self.alpha)
