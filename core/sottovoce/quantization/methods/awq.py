"""AWQ: inputs that matter get finer steps, by scaling their weights up and what feeds them down.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
https://arxiv.org/abs/2306.00978 (equations 4 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sottovoce.quantization.error import squared_error
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import compute_qparams

_GRID = 20
_LEAST = 1e-4
_ROWS = 8192
"""Outputs that the error is computed for at most: the many experts that read one input have a hundred thousand."""


def search_factors(
    weights: Sequence[Tensor],
    schemes: Sequence[Scheme],
    hessian: Tensor,
    magnitude: Tensor,
    *,
    search: bool = False,
    powers_of_two: bool = False,
) -> tuple[Tensor, float]:
    """The factors of the inputs with the least output error of the layers that read them.

    The factors are the mean magnitudes to a power; twenty powers from 0 (no scaling) are tried. The output error needs
    no samples beside the second moments of the inputs, ``tr(D H D^T)`` for a change ``D`` of a weight.

    Args:
        weights: Of the layers that read one input, each float ``[out, in]``.
        schemes: How each is stored.
        hessian: Second moments of the input ``[in, in]``.
        magnitude: Mean absolute value of the input ``[in]``.
        search: Whether qparams_list are chosen by squared error.
        powers_of_two: Whether the factors are to be powers of two: these change no digit of a float weight, so what
            else reads the input, and stays float, gives the very same.

    Returns:
        The factors ``[in]`` that the weights are multiplied by, and the power.
    """
    best: tuple[float, Tensor, float] | None = None
    weights = _sampled(weights)
    for step in range(_GRID):
        power = step / _GRID
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
    """Every so many rows of each weight, where there are more than serve the search."""
    stride = -(-sum(len(weight) for weight in weights) // _ROWS)
    return [weight[::stride] for weight in weights]


def scaling_factors(magnitude: Tensor, power: float) -> Tensor:
    """``magnitude ** power``, brought around one as the authors do: by the root of the smallest times the largest."""
    factors = magnitude.float().pow(power).clamp(min=_LEAST)
    return factors / (factors.max() * factors.min()).sqrt()
