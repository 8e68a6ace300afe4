"""Float layers for graphs: what a tracer cannot follow becomes the plain layer that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def as_float(layer: nn.Module) -> nn.Module:
    """Return a compressed or faster layer as the plain float layer that it stands for; any other layer as it is."""
    from torch import nn

    dequantize = getattr(layer, "dequantize", None)
    if callable(dequantize):
        plain: nn.Module = dequantize()
        return plain
    if not isinstance(layer, nn.Linear) or type(layer) is nn.Linear:
        return layer
    # A subclass may branch on its input, which no graph can.
    linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    return linear


def on_cpu(module: nn.Module) -> nn.Module:
    """Return the module in float32 on the CPU; a copy when it was anything else."""
    import copy

    import torch

    if all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in module.state_dict().values()):
        return module
    return copy.deepcopy(module).to("cpu", torch.float32)
