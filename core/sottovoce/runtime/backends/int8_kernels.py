"""Products with one packed int8 weight, one kernel for each engine; inputs are quantized on the way in."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import instructions, int_mm, onednn
from sottovoce.system.process_state import ignored_warnings

Kernel = Callable[[Tensor], Tensor]
"""The product with one packed weight: float ``[..., in]`` to float32 ``[..., out]``."""
QuantizeRows = Callable[[Tensor], "onednn.QuantizedRows | None"]


class InputRange(NamedTuple):
    """Calibrated range of an input, as its quantization parameters."""

    scale: float
    zero_point: int
    """Quantized value that stands for zero, -128 to 127."""

    @classmethod
    def of(cls, scale: Tensor | None, zero_point: Tensor | None) -> InputRange | None:
        """Return the range that a layer stores; ``None`` where it stores none."""
        return None if scale is None or zero_point is None else cls(scale.item(), int(zero_point.item()))


class SharedRows:
    """Quantizer that several layers share, which read the same tensor one after another: it works once for all.

    The tensor must not be changed in place between its readers.
    """

    def __init__(self, readers: int) -> None:
        """Free the rows after as many calls as there are readers."""
        self._readers = readers
        self._kept: tuple[weakref.ref[Tensor], onednn.QuantizedRows, list[None]] | None = None

    def __call__(self, x: Tensor) -> onednn.QuantizedRows | None:
        """Quantize as :func:`onednn.quantize_rows` does."""
        kept = self._kept
        if kept is not None and kept[0]() is x:
            kept[2].append(None)
            if len(kept[2]) >= self._readers:
                self._kept = None
            return kept[1]
        rows = onednn.quantize_rows(x)
        self._kept = None if rows is None else (weakref.ref(x), rows, [None])
        return rows


def onednn_kernel(
    packed: onednn.PackedWeight,
    scheme: Scheme,
    inputs: InputRange | None,
    otherwise: Kernel,
    shared: SharedRows | None,
) -> Kernel:
    """Return the product by oneDNN with one weight; ``otherwise`` serves inputs that are not finite."""
    if inputs is not None:
        return functools.partial(_onednn_static, packed, inputs, otherwise)
    if scheme.strategy == "token":
        return functools.partial(_onednn_rows, packed, shared or onednn.quantize_rows, otherwise)
    return functools.partial(_onednn, packed, otherwise)


def _onednn(packed: onednn.PackedWeight, otherwise: Kernel, x: Tensor) -> Tensor:
    quantized = onednn.quantize(x)
    if quantized is None:
        return otherwise(x)
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    return onednn.linear(quantized, packed, dtype=dtype).view(*x.shape[:-1], -1)


def _onednn_rows(packed: onednn.PackedWeight, quantize: QuantizeRows, otherwise: Kernel, x: Tensor) -> Tensor:
    quantized = quantize(x)
    if quantized is None:
        return otherwise(x)
    return onednn.linear_rows(quantized, packed).view(*x.shape[:-1], -1)


def _onednn_static(packed: onednn.PackedWeight, inputs: InputRange, otherwise: Kernel, x: Tensor) -> Tensor:
    quantized = onednn.quantize_finite_by(x, inputs.scale, inputs.zero_point + 128)
    if quantized is None:
        return otherwise(x)
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    return onednn.linear(quantized, packed, dtype=dtype).view(*x.shape[:-1], -1)


def gpu_kernel(weight: int_mm.Weight, scheme: Scheme, inputs: tuple[Tensor, Tensor] | None) -> Kernel:
    """Return the product by ``torch._int_mm`` with one weight; ``inputs`` are a calibrated scale and zero point."""
    if inputs is not None:
        scale, zero_point = inputs
        return functools.partial(_int_mm, weight, lambda x: int_mm.quantize_by(x, scale, zero_point))
    return functools.partial(_int_mm, weight, int_mm.quantize_rows if scheme.strategy == "token" else int_mm.quantize)


def _int_mm(weight: int_mm.Weight, quantize: Callable[[Tensor], int_mm.QuantizedActivations], x: Tensor) -> Tensor:
    return int_mm.linear(quantize(x), weight).view(*x.shape[:-1], -1)


def dynamic_kernel(weight: Tensor, scale: Tensor, bias: Tensor | None, *, by_row: bool, otherwise: Kernel) -> Kernel:
    """Return PyTorch's own dynamic product; ``otherwise`` serves inputs that are not finite.

    It takes the range of the whole tensor: where each row has a range, every row is moved and brought to 0 to 1 first.
    So all its steps serve the values between the least and the largest of a row, and none is lost on the other sign.
    """
    if by_row:
        return _dynamic_rows(weight, scale, bias, otherwise)
    product = linear_dynamic(weight, scale, bias)

    def kernel(x: Tensor) -> Tensor:
        # One pass over the inputs; a sum that is too large merely sends finite ones the slow way.
        return product(x) if math.isfinite(x.sum(dtype=torch.float32).item()) else otherwise(x)

    return kernel


def _dynamic_rows(weight: Tensor, scale: Tensor, bias: Tensor | None, otherwise: Kernel) -> Kernel:
    product = linear_dynamic(weight, scale, None)
    # What a row of ones gives, exactly: a row that was moved by a number has its product moved by so many of them.
    ones = weight.sum(1, dtype=torch.int32).float() * scale.flatten().float()

    def kernel(x: Tensor) -> Tensor:
        lowest = x.amin(-1, keepdim=True).float()
        extent = x.amax(-1, keepdim=True).float() - lowest
        if not bool(torch.isfinite(extent).all()):
            return otherwise(x)
        extent.clamp_(min=torch.finfo(torch.float32).tiny)
        total = product((x - lowest) / extent).mul_(extent).addcmul_(lowest, ones)
        return total if bias is None else total + bias

    return kernel


def linear_dynamic(weight: Tensor, scale: Tensor, bias: Tensor | None) -> Kernel:
    """Return PyTorch's dynamic product; without VNNI with 7 bits for the input, as 8 would saturate."""
    with ignored_warnings():
        zero_point = torch.zeros(weight.shape[0], dtype=torch.long)
        quantized = torch._make_per_channel_quantized_tensor(
            weight.contiguous(), scale.flatten().double(), zero_point, 0
        )
        packed = torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.detach().float())
    reduce_range = not instructions.vnni()

    def product(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).float().contiguous()
        result: Tensor = torch.ops.quantized.linear_dynamic(rows, packed, reduce_range)
        return result.view(*x.shape[:-1], -1)

    return product
