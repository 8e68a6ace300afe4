"""Training of quantized layers: float weights that are rounded, as the engine rounds, whenever their layer runs.

Gradients pass the rounding as if it were not there (straight-through, Bengio et al., arXiv 1308.3432), and scales are
learned with the weights (LSQ, Esser et al., arXiv 1902.08153).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.runtime.backends import int_mm
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.layers import from_quantized, replace_
from sottovoce.runtime.packed_linear import PackedLinear
from sottovoce.runtime.qparams import QuantizationParams, stored_scale
from sottovoce.training.zeros import LEAST_ROUNDED

_MARGIN = 0.25
"""Share of a quantization step between a weight and the place where it would be rounded to another value."""


class FakeQuantizedLinear(nn.Module):
    """A linear layer in training whose weight, and input where it is quantized, is rounded in every forward pass.

    Attributes:
        weight: float32 ``[out, in]``, which the values of the quantized layer are rounded from.
        log_scale: float32 ``[out, groups]``, the logarithm of the change of the scales.
        bias: Float ``[out]`` or ``None``.
    """

    scale: Tensor
    zero_point: Tensor | None
    bias: nn.Parameter | None

    def __init__(self, layer: Int8Linear | PackedLinear, float_weight: Tensor | None = None) -> None:
        """Take the weights of a quantized layer.

        Args:
            layer: The quantized layer.
            float_weight: The weight ``[out, in]`` that it was quantized from, where it is known. Training begins as
                near to it as rounding to the layer's values allows: so those weights change their value first that
                lie between two.
        """
        super().__init__()
        self.in_features, self.out_features, self.scheme = layer.in_features, layer.out_features, layer.scheme
        qparams = _qparams(layer)
        self._dtype = layer.dtype if isinstance(layer, PackedLinear) else torch.float32
        self._inputs = layer.input_range if isinstance(layer, Int8Linear) else None
        self.register_buffer("scale", qparams.scale.clone(), persistent=False)
        zero_point = None if qparams.zero_point is None else qparams.zero_point.clone()
        self.register_buffer("zero_point", zero_point, persistent=False)
        weight = layer.float_weight(torch.float32).clone()
        is_sparse = float((weight == 0).float().mean()) >= LEAST_ROUNDED
        if float_weight is None and not is_sparse:
            # Exact zeros would be taken for those of pruning.
            weight = weight.where(weight != 0, torch.finfo(torch.float32).tiny)
        elif float_weight is not None and not is_sparse:
            half = (0.5 - _MARGIN) * qparams.scale.repeat_interleave(weight.shape[1] // qparams.scale.shape[1], 1)
            weight = float_weight.detach().to(weight).clamp(weight - half, weight + half)
        self.weight = nn.Parameter(weight)
        self.log_scale = nn.Parameter(torch.zeros_like(qparams.scale))
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.register_parameter("bias", bias)

    def qparams(self) -> QuantizationParams:
        """Return the scales as they are stored, and the zero points."""
        with torch.no_grad():
            scale = stored_scale(self.scale * self.log_scale.exp(), self.scheme, self._dtype)
        return QuantizationParams(self.scheme, scale, self.zero_point)

    def rounded_weight(self) -> Tensor:
        """Return the weight ``[out, in]`` that the layer will have once it is stored."""
        qparams = self.qparams()
        learned = self.scale * self.log_scale.exp()
        scale = (learned + (qparams.scale - learned).detach())[..., None]
        groups = self.weight.view(self.out_features, scale.shape[1], -1)
        places = groups / scale
        if self.zero_point is not None:
            places = places + self.zero_point[..., None]
        # Values beyond the range learn nothing from being clipped; the scale does.
        within = places.clamp(self.scheme.lowest, self.scheme.highest)
        values = qparams.quantize(self.weight.detach()).view_as(within)
        rounded = within + (values - within).detach()
        if self.zero_point is not None:
            rounded = rounded - self.zero_point[..., None]
        return (rounded * scale).view_as(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float ``[..., in]`` to ``[..., out]``."""
        x = x if self.scheme.activations == "none" else self._rounded_input(x)
        return functional.linear(x, self.rounded_weight().to(x.dtype), self.bias)

    def quantized(self) -> nn.Module:
        """Return the layer that stores the rounded weight."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta", dtype=self._dtype)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().to(self._dtype))
        qparams = self.qparams()
        return from_quantized(linear, qparams.quantize(self.weight.detach()), qparams, self._inputs)

    def _rounded_input(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            if self._inputs is not None:
                scale = torch.tensor([self._inputs.scale], device=x.device)
                zero_point = torch.tensor([self._inputs.zero_point], dtype=torch.int8, device=x.device)
                quantized = int_mm.quantize_by(x.float(), scale, zero_point)
            elif self.scheme.strategy == "token":
                quantized = int_mm.quantize_rows(x.float())
            else:
                quantized = int_mm.quantize(x.float())
            values = quantized.values.float()
            if quantized.zero_point is not None:
                values = values - quantized.zero_point
            rounded = (values * quantized.scale).view_as(x).to(x.dtype)
        return x + (rounded - x).detach()


@contextmanager
def fake_quantized(module: nn.Module, original: nn.Module | None = None) -> Iterator[None]:
    """Put layers that can be trained in place of the quantized ones, and store what they learned at the end.

    Args:
        module: The module, changed in place.
        original: The module before it was quantized, if it is at hand.
    """
    for name, layer in list(module.named_modules()):
        if isinstance(layer, Int8Linear | PackedLinear):
            replace_(module, name, FakeQuantizedLinear(layer, _weight_of(original, name, layer)))
    try:
        yield
    finally:
        for name, layer in list(module.named_modules()):
            if isinstance(layer, FakeQuantizedLinear):
                replace_(module, name, layer.quantized())


def _weight_of(original: nn.Module | None, name: str, layer: Int8Linear | PackedLinear) -> Tensor | None:
    """Return the weight of the layer of the same name, where it has the same size."""
    try:
        linear = None if original is None else original.get_submodule(name)
    except AttributeError:
        return None
    is_same = isinstance(linear, nn.Linear) and linear.weight.shape == (layer.out_features, layer.in_features)
    return linear.weight if is_same else None  # type: ignore[union-attr, return-value]


def layer_with_weight(parameter: str) -> str:
    """Return the name of the module that holds a parameter."""
    return parameter.rpartition(".")[0]


def _qparams(layer: Int8Linear | PackedLinear) -> QuantizationParams:
    if isinstance(layer, PackedLinear):
        return layer.qparams()
    return QuantizationParams(layer.scheme, layer.weight_scale.detach().clone())
