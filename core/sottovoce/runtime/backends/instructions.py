"""Instructions of this CPU that decide which products are fast."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from sottovoce.system.environment import INT8

_BFLOAT16 = ("avx512_bf16", "amx_bf16")


@functools.cache
def vnni() -> bool:
    """Return whether the CPU multiplies u8 by s8 without saturating in 16 bits (AVX512-VNNI, AVX-VNNI or AMX)."""
    return any(map(_capable, INT8))


@functools.cache
def bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 by special instructions (AVX512-BF16 or AMX)."""
    return any(map(_capable, _BFLOAT16))


def tiles() -> bool:
    """Return whether the CPU multiplies bfloat16 in tiles (AMX), which PyTorch's own attention uses."""
    return _capable("amx_bf16")


def _capable(instructions: str) -> bool:
    capabilities: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return bool(capabilities().get(instructions, False))
