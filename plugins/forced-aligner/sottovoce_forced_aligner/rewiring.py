"""What makes a compressed aligner fast on the CPU: layers of one input round it once, attention runs in blocks."""

from __future__ import annotations

import torch
from torch import nn

from sottovoce.formats.int8_linear import share_rounding_
from sottovoce_forced_aligner.attention import install_

_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def rewire(module: nn.Module) -> tuple[str, ...]:
    """Rewire the layers of both stacks in place.

    Returns:
        What was done.
    """
    shared = 0
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for names in _TOGETHER:
            layers = [getattr(child, name, None) for name in names]
            if all(isinstance(layer, nn.Module) for layer in layers):
                shared += share_rounding_(*[layer for layer in layers if isinstance(layer, nn.Module)])
    install_(module)
    return (f"{shared} groups of layers round their input once", "attention in blocks", "convolutions channels-last")
