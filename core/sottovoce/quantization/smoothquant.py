"""SmoothQuant: outliers of an input move into the weights that read it.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
https://arxiv.org/abs/2211.10438 (equation 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sottovoce.errors import CoverageError
from sottovoce.report.number_format import counted

_LEAST = 1e-5


def smoothing_factors(largest_input: Tensor, weights: Sequence[Tensor], alpha: float) -> Tensor:
    """Compute the divisors of the inputs: ``max|X_j| ** alpha / max|W_j| ** (1 - alpha)``.

    Args:
        largest_input: Largest magnitude of every input ``[in]``.
        weights: Of the layers that read it, each ``[out, in]``.
        alpha: How much of the outliers moves, 0 to 1.

    Returns:
        ``[in]``; 1 for an input that was always zero.
    """
    largest_weight = (
        torch.stack([weight.detach().float().abs().amax(0) for weight in weights]).amax(0).clamp(min=_LEAST)
    )
    factors = largest_input.float().clamp(min=_LEAST).pow(alpha) / largest_weight.pow(1 - alpha)
    return torch.where(largest_input > 0, factors.clamp(min=_LEAST), torch.ones_like(factors))


def scale_between_(source: nn.Module, consumers: Sequence[nn.Module], factors: Tensor) -> None:
    """Divide the outputs of ``source`` by ``factors`` and multiply what reads them: the function stays the same.

    Args:
        source: A normalization with a weight ``[in]``, or a linear layer with outputs ``[in]``.
        consumers: All that reads its output, each by a weight ``[out, in]``; nothing else may.
        factors: Positive ``[in]``.

    Raises:
        CoverageError: ``source`` has no weight of that size.
    """
    weight = getattr(source, "weight", None)
    if not isinstance(weight, nn.Parameter) or weight.shape[0] != len(factors) or weight.ndim > 2:
        raise CoverageError(
            f"a {type(source).__name__} without a weight for {counted(len(factors), 'output')} cannot be scaled"
        )
    with torch.no_grad():
        divisor = factors.view(-1, *([1] * (weight.ndim - 1)))
        weight.copy_((weight.float() / divisor).to(weight.dtype))
        bias = getattr(source, "bias", None)
        if bias is not None:
            bias.copy_((bias.float() / factors).to(bias.dtype))
        for consumer in consumers:
            read = consumer.weight
            assert isinstance(read, nn.Parameter)
            read.copy_((read.float() * factors).to(read.dtype))
