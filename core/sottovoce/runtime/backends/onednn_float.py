"""Float products and convolutions on the CPU by oneDNN: the only module that calls ``torch.ops.mkldnn``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def float_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``x @ weight.T + bias`` in float32 by oneDNN; PyTorch's own library takes twice the time on some CPUs.

    Args:
        x: Float32 ``[..., in]``.
        weight: Float32 ``[out, in]``, as it is.
        bias: Float32 ``[out]``.
    """
    rows = x.reshape(-1, x.shape[-1])
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, "none", [], "")
    return result.view(*x.shape[:-1], -1)


def convolve_gelu(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Compute the GELU of a convolution, in the pass that writes it.

    Args:
        x: Float ``[batch, channels, height, width]``.
        weight: Of the same dtype, ``[out, channels, height, width]``.
        bias: Of the same dtype, ``[out]``.
        stride: Along both axes.
        padding: Along both axes.
    """
    result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, list(padding), list(stride), [1, 1], 1, "gelu", [], "none"
    )
    return result


@functools.cache
def convolution_supported() -> bool:
    """Return whether :func:`convolve_gelu` is there and right; tried once."""
    x, weight = torch.linspace(-2, 2, 60).view(1, 3, 4, 5), torch.linspace(-1, 1, 54).view(2, 3, 3, 3)
    bias = torch.tensor([0.5, -0.5])
    try:
        with torch.inference_mode():
            actual = convolve_gelu(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), (2, 2), (1, 1)).float()
            expected = functional.gelu(functional.conv2d(x, weight, bias, 2, 1))
            return torch.allclose(actual, expected, rtol=0.02, atol=0.05)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def matmul_transposed(a: Tensor, b: Tensor) -> Tensor:
    """Compute ``a @ b.T`` in float32, by oneDNN on the CPU where it is there.

    Args:
        a: Float32 ``[rows, in]``.
        b: Float32 ``[out, in]``.
    """
    if a.device.type != "cpu" or not a.numel() or not float_supported():
        return a @ b.t()
    return float_linear(a.contiguous(), b.contiguous(), None)


@functools.cache
def float_supported() -> bool:
    """Return whether :func:`float_linear` is there and right; tried once."""
    x, weight, bias = torch.linspace(-1, 1, 30).view(2, 3, 5), torch.linspace(-2, 1, 20).view(4, 5), torch.ones(4)
    try:
        with torch.inference_mode():
            return torch.allclose(float_linear(x, weight, bias), x @ weight.t() + bias, atol=1e-5)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
