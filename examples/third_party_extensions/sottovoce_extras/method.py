"""The quantization method ``stochastic``: round up or down at random."""

from typing import Annotated

from pydantic import Field

from sottovoce import Method, Text, method


@method("stochastic")
class Stochastic(Method):
    """Options of stochastic rounding."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the random numbers."""

    label = Text(en="stochastic rounding", zh="随机舍入")
    description = Text(
        en="Weights are rounded up or down at random, without bias; needs no samples.",
        zh="无偏地随机向上或向下舍入权重；不需要样本。",
    )

    def quantize(self, weight, qparams, hessian):
        """Return the nearest values of the weight plus noise of one quantization interval."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        scale = qparams.scale.repeat_interleave(weight.shape[1] // qparams.scale.shape[1], dim=1)
        noise = torch.rand(weight.shape, generator=generator) - 0.5
        return qparams.quantize(weight.float() + noise * scale)
