"""The product with one int8 weight, prepared for the engine of the device that the weight lies on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import int_mm, onednn
from sottovoce.runtime.backends.int8_engine import (
    InputRange,
    Kernel,
    SharedRows,
    dynamic_kernel,
    engine,
    gpu_engine,
    gpu_kernel,
    onednn_kernel,
)

_EXACT_SHAPES: set[tuple[int, ...]] = set()
"""Shapes whose packed weights were seen to give the plain ones back; the layout depends on nothing else."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Operands:
    """Tensors of a product besides its input."""

    scheme: Scheme
    """Scheme that says how the input is quantized."""
    weight: Tensor
    """s8 ``[out, in]``."""
    weight_scale: Tensor
    """float32 ``[out, 1]``."""
    bias: Tensor | None
    """Float ``[out]``."""
    input_scale: Tensor | None
    """float32 ``[1]``, where the range of the input is calibrated."""
    input_zero_point: Tensor | None
    """s8 ``[1]``, where the range of the input is calibrated."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedProduct:
    """A product that is ready to run."""

    kernel: Kernel
    packed: onednn.PackedWeight | None = None
    """Weight in oneDNN's layout, where that is the engine."""
    gives_back: bool = False
    """If true, the packed weight gives the plain one back exactly."""


def prepare_product(operands: Int8Operands, float_product: Kernel, shared: SharedRows | None) -> PreparedProduct:
    """Prepare a product for the device of its weight, the CPU or a GPU.

    Args:
        operands: The weight, with its scales and bias.
        float_product: The same product in float, for inputs that an engine refuses.
        shared: Quantizes the rows of an input once for several layers.
    """
    if operands.weight_scale.device.type == "cuda":
        return PreparedProduct(_gpu_kernel(operands, float_product))
    name = engine()
    if name == "onednn":
        return _pack_for_onednn(operands, float_product, shared)
    if name == "linear_dynamic":
        by_row = operands.scheme.strategy == "token" and operands.scheme.activations == "dynamic"
        weight = operands.weight, operands.weight_scale, operands.bias
        return PreparedProduct(dynamic_kernel(*weight, by_row=by_row, otherwise=float_product))
    return PreparedProduct(float_product)


def _pack_for_onednn(operands: Int8Operands, float_product: Kernel, shared: SharedRows | None) -> PreparedProduct:
    weight = operands.weight
    packed = onednn.pack(weight, operands.weight_scale, operands.bias)
    gives_back = tuple(weight.shape) in _EXACT_SHAPES or torch.equal(packed.unpack(), weight)
    if gives_back:
        _EXACT_SHAPES.add(tuple(weight.shape))
    inputs = InputRange.of(operands.input_scale, operands.input_zero_point)
    kernel = onednn_kernel(packed, operands.scheme, inputs, float_product, shared)
    return PreparedProduct(kernel, packed, gives_back)


def _gpu_kernel(operands: Int8Operands, float_product: Kernel) -> Kernel:
    weight = operands.weight
    if not int_mm.takes(weight) or gpu_engine(weight.device) == "float":
        return float_product
    inputs = None
    if operands.input_scale is not None and operands.input_zero_point is not None:
        inputs = operands.input_scale, operands.input_zero_point
    by_row = inputs is None and operands.scheme.strategy == "token"
    prepared = int_mm.prepare(weight, operands.weight_scale, operands.bias, has_zero_point=not by_row)
    return gpu_kernel(prepared, operands.scheme, inputs)
