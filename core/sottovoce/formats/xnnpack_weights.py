"""Linear layers in the pattern that XNNPACK multiplies in integers, with a compressed model's own values.

XNNPACK rounds a layer's inputs to int8 while it runs, a range for each row. It takes weights of 8 bits with a scale for
each output, or of 4 bits with scales for groups of 32 inputs or a multiple; these hold values of 2 and 3 bits too. It
has no product of rounded weights and float inputs. The operators that say so to its partitioner are torchao's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.formats.executorch import require
from sottovoce.formats.stored_weights import store_weights

if TYPE_CHECKING:
    from sottovoce.formats.quantized_weights import QuantizedWeight, QuantizedWeights

_GROUP = 32
"""Number of inputs of which a group is a multiple."""


class DynamicLinear(nn.Module):
    """Linear layer whose inputs are rounded to int8 row by row, and whose weights are integers."""

    values: Tensor
    """int8 ``[out, in]``, also for fewer bits."""
    scale: Tensor
    """float32 ``[out]``, or ``[out, groups]``; XNNPACK stores those of groups in bfloat16."""
    zero_point: Tensor
    bias: Tensor | None

    def __init__(self, weight: QuantizedWeight, bias: Tensor | None) -> None:
        """Take the values of a compressed layer, and its bias ``[out]``.

        Raises:
            OutputError: torchao is not installed.
        """
        super().__init__()
        require("torchao.quantization.quant_primitives")  # registers the operators
        scale = torch.from_numpy(weight.scale)
        self.register_buffer("values", torch.from_numpy(weight.qweight).contiguous())
        self.register_buffer("scale", scale[:, 0].contiguous() if scale.shape[1] == 1 else scale.contiguous())
        self.register_buffer("zero_point", torch.zeros(self.scale.shape, dtype=torch.int32))
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.group_size = weight.group_size
        # Those of 4 bits for fewer bits too: XNNPACK knows no others.
        scheme = replace(weight.scheme, bits=weight.container_bits)
        self.lowest, self.highest = scheme.lowest, scheme.highest

    def forward(self, input: Tensor) -> Tensor:
        """Multiply ``[..., in]`` to ``[..., out]``."""
        ops = torch.ops.torchao
        row = [1] * (input.dim() - 1) + [input.shape[-1]]
        smallest = torch.finfo(torch.float32).eps
        scale, zero_point = ops.choose_qparams_affine(
            input, "ASYMMETRIC", row, torch.int8, -128, 127, smallest, torch.float32, torch.int8
        )
        rounded = ops.quantize_affine(input, row, scale, zero_point, torch.int8, -128, 127)
        floats = ops.dequantize_affine(rounded, row, scale, zero_point, torch.int8, -128, 127)
        group = [1, self.group_size]
        weight = ops.dequantize_affine(
            self.values, group, self.scale, self.zero_point, torch.int8, self.lowest, self.highest
        )
        return functional.linear(floats, weight, self.bias)


def fits_xnnpack(weight: QuantizedWeight) -> bool:
    """Return whether XNNPACK multiplies the values as they are."""
    if weight.zero_point is not None:
        return False
    if weight.container_bits == 8:
        return bool(weight.scale.shape[1] == 1)
    return bool(weight.group_size % _GROUP == 0)


def store_for_xnnpack(module: nn.Module, weights: QuantizedWeights) -> int:
    """Replace the float layers of a graph's module, behind which a compressed model has integers, in place.

    Layers whose values XNNPACK does not take as they are stay the floats that they stand for.

    Args:
        module: The module to be exported; its parts are the caller's own, not the model's.
        weights: What the model's compressed layers hold.

    Returns:
        The number of layers that were replaced.

    Raises:
        OutputError: torchao, which ExecuTorch brings, is not installed.
    """
    return store_weights(
        module, weights, lambda weight, bias: DynamicLinear(weight, bias) if fits_xnnpack(weight) else None
    )
