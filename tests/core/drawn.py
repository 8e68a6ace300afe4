"""Weights, inputs and schemes for the tests of arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams

PACKED = [
    Scheme(bits=bits, group_size=group_size, symmetric=symmetric)
    for bits in (4, 8, 3, 2)
    for group_size in (None, 32)
    for symmetric in (True, False)
]
"""Integers without arithmetic on the inputs."""

FLOAT8 = Scheme(bits=8, type="float")

MULTIPLIED = [
    Scheme(activations="dynamic", strategy="token"),
    Scheme(activations="dynamic", strategy="tensor"),
    Scheme(activations="static", strategy="tensor"),
]
"""Integers whose inputs are rounded too."""

SCHEMES = [*PACKED, FLOAT8, *MULTIPLIED]


def name_of(scheme: Scheme) -> str:
    """A short name, for the ids of parametrized tests."""
    grouped = f"g{scheme.group_size}" if scheme.group_size else "channel"
    kind = "symmetric" if scheme.symmetric else "asymmetric"
    inputs = "" if scheme.activations == "none" else f"-{scheme.activations}-{scheme.strategy}"
    return f"{scheme.type}{scheme.bits}-{grouped}-{kind}{inputs}"


def normal(*sizes: int, seed: int = 0) -> Tensor:
    """Normal numbers that leave the state of torch's generator alone."""
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def correlated(rows: int, width: int, seed: int = 0) -> Tensor:
    """Inputs ``[rows, width]`` that hang together, some much larger than others, none around zero."""
    mixing = normal(width // 4, width, seed=seed + 1000)
    x = normal(rows, width // 4, seed=seed) @ mixing / 4 + 0.3 * normal(rows, width, seed=seed + 1)
    return (x + 0.2) * torch.linspace(-1, 1, width).exp()


def moments(x: Tensor) -> Tensor:
    """Mean second moments of inputs ``[rows, in]``."""
    return x.t() @ x / len(x)


def linear(width: int = 64, out: int = 48, bias: bool = True, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """A layer with the same weights every time."""
    made = nn.Linear(width, out, bias)
    made.weight.data = normal(out, width, seed=7) / width**0.5
    if bias:
        made.bias.data = normal(out, seed=8)
    return made.to(dtype)


def rounded(layer: nn.Linear, scheme: Scheme) -> tuple[Tensor, QuantizationParams]:
    """The quantized values of a layer's weight, rounded to nearest, and their parameters."""
    qparams = compute_qparams(layer.weight.detach(), scheme)
    return qparams.quantize(layer.weight.detach()), qparams


def quantized(scheme: Scheme, bias: bool = True, dtype: torch.dtype = torch.float32, width: int = 64) -> nn.Module:
    """The quantized form of :func:`linear`."""
    layer = linear(width, bias=bias, dtype=dtype)
    return from_quantized(layer, *rounded(layer, scheme))
