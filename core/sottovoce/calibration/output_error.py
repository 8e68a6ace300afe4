"""Error of a quantized weight: signal to noise ratio, and error of the layer's output."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sottovoce.runtime.backends.onednn_float import matmul_transposed
from sottovoce.runtime.qparams import row_chunks


def signal_to_noise_db(weight: Tensor, values: Callable[[slice], Tensor]) -> float | None:
    """10 log10 of the weight's power over its error's; ``None`` when there is no error.

    Args:
        weight: Float ``[out, in]``.
        values: Gives what some of its rows became.
    """
    signal = noise = 0.0
    for part in row_chunks(weight):
        exact = weight[part].float()
        signal, noise = signal + squares(exact), noise + squares(values(part) - exact)
    return 10 * math.log10(signal / noise) if noise > 0 and signal > 0 else None


def squares(values: Tensor) -> float:
    """Compute the sum of the squares."""
    return float(torch.linalg.vector_norm(values)) ** 2


def squared_error(weight: Tensor, values: Tensor, hessian: Tensor) -> float:
    """Mean squared error of a layer's output, summed over the outputs: ``tr(D H D^T)``.

    Args:
        weight: Float ``[out, in]``.
        values: What it became.
        hessian: Mean second moments of the inputs ``[in, in]``.
    """
    return _energy(weight.float() - values, hessian)


def output_power(weight: Tensor, hessian: Tensor) -> float:
    """Compute the mean power of a layer's output, summed over the outputs."""
    return _energy(weight.float(), hessian)


def output_error(weight: Tensor, values: Tensor, hessian: Tensor, power: float | None = None) -> float:
    """Compute the squared error of a layer's output, as a share of the output's power, which may be given."""
    power = output_power(weight, hessian) if power is None else power
    return squared_error(weight, values, hessian) / power if power > 0 else 0.0


_BLOCK = 512
"""Inputs that are multiplied at a time."""


def _energy(weight: Tensor, hessian: Tensor) -> float:
    # The moments are symmetric, so the part below their diagonal blocks counts twice, and the part above is not read.
    total = 0.0
    for start in range(0, len(hessian), _BLOCK):
        end = min(start + _BLOCK, len(hessian))
        block = weight[:, start:end].contiguous()
        product = matmul_transposed(block, hessian[start:end, start:end])
        if start:
            product += 2 * matmul_transposed(weight[:, :start], hessian[start:end, :start])
        total += float(torch.einsum("oi,oi->", product, block))
    return max(total, 0.0)
