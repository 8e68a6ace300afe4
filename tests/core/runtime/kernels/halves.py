"""Tensors of bfloat16 for the tests of kernels."""

from __future__ import annotations

import torch
from torch import Tensor

LARGE = (300, 257)
"""More than one thread's."""
EVERY = torch.arange(1 << 16).to(torch.uint16).view(torch.bfloat16)
"""All bfloat16 numbers."""


def drawn(*shape: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * spread).bfloat16()


def alike(found: Tensor, want: Tensor) -> bool:
    """Equal, a NaN to a NaN."""
    return found.dtype == want.dtype and torch.equal(found.nan_to_num(nan=12345), want.nan_to_num(nan=12345))
