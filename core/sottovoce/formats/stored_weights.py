"""Linear layers of a graph that keep a compressed model's integers, and make the float weight of them as they run.

A graph of PyTorch's own operators has no quantized product that holds for every engine. So the integers are stored,
which makes the file small, and the operators that turn them into the float weight are part of the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from sottovoce.formats.quantized_weights import QuantizedWeight, QuantizedWeights

_MIDDLE = 8
"""Difference between an unsigned and a signed value of 4 bits."""


class StoredLinear(nn.Module):
    """Linear layer with weights ``(values - zero_point) * scale`` in 8 bits, or two in a byte."""

    values: Tensor
    """int8 ``[out, in]``; or uint8 ``[out, in / 2]``, the first of two values in the low bits."""
    scale: Tensor
    """float32 ``[out, groups, 1]``."""
    zero_point: Tensor | None
    """int8 ``[out, groups, 1]``; ``None`` is the middle of the range."""
    bias: Tensor | None

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None) -> None:
        """Take the values of a compressed layer, and its bias ``[out]``."""
        super().__init__()
        values = torch.from_numpy(weight.qweight)
        self.is_packed = weight.container_bits == 4 and values.shape[1] % 2 == 0
        if self.is_packed:
            unsigned = (values + _MIDDLE).to(torch.uint8)
            values = unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
        points = None if weight.zero_point is None else torch.from_numpy(weight.zero_point)[..., None]
        self.register_buffer("values", values.contiguous())
        self.register_buffer("scale", torch.from_numpy(weight.scale)[..., None].contiguous())
        self.register_buffer("zero_point", points)
        self.register_buffer("bias", None if bias is None else bias.detach())

    def weight(self) -> Tensor:
        """Return the float weight ``[out, in]``."""
        values = self.values
        if self.is_packed:
            values = torch.stack((values & 15, values >> 4), dim=-1).flatten(1).to(torch.int8) - _MIDDLE
        groups = values.to(torch.float32).reshape(self.scale.shape[0], self.scale.shape[1], -1)
        if self.zero_point is not None:
            groups = groups - self.zero_point.to(torch.float32)
        return (groups * self.scale).flatten(1)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply ``[..., in]`` to ``[..., out]``."""
        return functional.linear(input, self.weight(), self.bias)


def store_weights(
    module: nn.Module,
    weights: QuantizedWeights,
    build: Callable[[QuantizedWeight, Tensor | None], nn.Module | None] = StoredLinear,
) -> int:
    """Replace the float layers of a graph's module, behind which a compressed model has integers, in place.

    Args:
        module: The module to be exported; its parts are the caller's own, not the model's.
        weights: What the model's compressed layers hold.
        build: Makes the layer of a weight and a bias; ``None`` leaves the float one.

    Returns:
        The number of layers that were replaced.
    """
    count = 0
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if not isinstance(layer, nn.Linear) or type(layer) is not nn.Linear:
                continue
            place = weights.find(layer.weight.detach().numpy())
            stored = None if place is None or place.transposed else build(place.weight, layer.bias)
            if stored is not None:
                setattr(parent, name, stored)
                count += 1
    return count
