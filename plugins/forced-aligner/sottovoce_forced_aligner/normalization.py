"""The text layers' normalization by the root mean square, in fewer passes over its input than the library's.

The library squares, averages, scales, rounds and weighs, each time into memory of its own. A compiled kernel does it in
one pass; without it the norm of a row is one pass, and the rest happens in place. Every rounding to bfloat16 is where
the library has it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.runtime.kernels.availability import takes
from sottovoce_forced_aligner.derived import derive


def install_(layer: nn.Module) -> bool:
    """Have a transformers layer work so in bfloat16 on the CPU; its weight stays where it is.

    Returns:
        True if it is such a layer.
    """
    alike = type(layer).__name__.endswith("RMSNorm") and list(dict(layer.named_parameters())) == ["weight"]
    if not alike or not isinstance(getattr(layer, "variance_epsilon", None), float):
        return False
    kind: Any = type(layer)
    layer.__class__ = _in_place(kind)
    return True


@functools.cache
def _in_place(kind: type[Any]) -> type[nn.Module]:
    """Return the class of layers like ``kind`` that work in place."""

    def forward(layer: Any, hidden_states: Tensor) -> Tensor:
        recorded = torch.is_grad_enabled() and (hidden_states.requires_grad or layer.weight.requires_grad)
        if hidden_states.dtype != torch.bfloat16 or hidden_states.device.type != "cpu" or recorded:
            result: Tensor = kind.forward(layer, hidden_states)
            return result
        if takes(hidden_states, layer.weight):
            from sottovoce.runtime.kernels.normalization import rms_norm

            return rms_norm(hidden_states, layer.weight, layer.variance_epsilon)
        x = hidden_states.float()
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        factor = norm.square_().div_(x.shape[-1]).add_(layer.variance_epsilon).rsqrt_()
        return x.mul_(factor).to(torch.bfloat16).mul_(layer.weight)

    return derive(kind, forward, _in_place)
