"""AWQ: weights of inputs with large activations are scaled up before rounding, and the inputs down.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
https://arxiv.org/abs/2306.00978 (equations 4 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sottovoce.quantization.method import Method, method
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.recipe.scheme import Scheme

_POWERS = 20
_LEAST = 1e-4
_ROWS = 8192
"""Most outputs that the error is computed for: the many experts that read one input have a hundred thousand."""


@method("awq")
class AWQ(Method):
    """Options of AWQ: none."""

    label = Text(en="AWQ", zh="AWQ")
    description = Text(
        en="Weights of inputs with large activations are scaled up before rounding; needs samples.",
        zh="舍入前放大激活值大的输入所对应的权重;需要样本。",
    )
    needs_samples = True
    scales_inputs = True

    def search_factors(
        self,
        weights: Sequence[Tensor],
        schemes: Sequence[Scheme],
        hessian: Tensor,
        magnitude: Tensor,
        *,
        search: bool = False,
        powers_of_two: bool = False,
    ) -> Tensor | None:
        """Return the factors of :func:`search_factors`; ``None`` where no scaling is best."""
        factors, power = search_factors(
            weights, schemes, hessian, magnitude, search=search, powers_of_two=powers_of_two
        )
        return factors if power > 0 else None


def search_factors(
    weights: Sequence[Tensor],
    schemes: Sequence[Scheme],
    hessian: Tensor,
    magnitude: Tensor,
    *,
    search: bool = False,
    powers_of_two: bool = False,
) -> tuple[Tensor, float]:
    """Search the factors of the inputs with the least output error of the layers that read them.

    The factors are the mean magnitudes to a power; twenty powers from 0 (no scaling) are tried. The output error needs
    only the second moments of the inputs, not the samples: ``tr(D H D^T)`` for a change ``D`` of a weight.

    Args:
        weights: Weights of the layers that read one input, each float ``[out, in]``.
        schemes: Scheme of each.
        hessian: Second moments of the input ``[in, in]``.
        magnitude: Mean absolute value of the input ``[in]``.
        search: If true, scales are chosen by squared error.
        powers_of_two: If true, the factors are rounded to powers of two: these change no digit of a float weight, so
            whatever else reads the input, and stays float, gives the very same.

    Returns:
        The factors ``[in]`` that the weights are multiplied by, and the power.
    """
    from sottovoce.calibration.output_error import squared_error
    from sottovoce.runtime.qparams import compute_qparams

    best: tuple[float, Tensor, float] | None = None
    weights = _sampled(weights)
    for number in range(_POWERS):
        power = number / _POWERS
        factors = scaling_factors(magnitude, power)
        if powers_of_two:
            factors = factors.log2().round().exp2()
        error = 0.0
        for weight, scheme in zip(weights, schemes, strict=True):
            scaled = weight.float() * factors
            qparams = compute_qparams(scaled.to(weight.dtype), scheme, search=search)
            error += squared_error(weight, qparams.dequantize(qparams.quantize(scaled)) / factors, hessian)
        if best is None or error < best[0]:
            best = error, factors, power
    assert best is not None
    return best[1], best[2]


def _sampled(weights: Sequence[Tensor]) -> list[Tensor]:
    """Return evenly spaced rows of each weight, where there are more than the search needs."""
    stride = -(-sum(len(weight) for weight in weights) // _ROWS)
    return [weight[::stride] for weight in weights]


def scaling_factors(magnitude: Tensor, power: float) -> Tensor:
    """Return ``magnitude ** power``, centered around 1 as the authors do: by the root of smallest times largest."""
    factors = magnitude.float().pow(power).clamp(min=_LEAST)
    return factors / (factors.max() * factors.min()).sqrt()
