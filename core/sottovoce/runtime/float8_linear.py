"""A linear layer with fp8 weights (weight only): the inputs stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.kernels import availability
from sottovoce.runtime.qparams import QuantizationParams, scale_dtype
from sottovoce.runtime.quantized_linear import QuantizedLinear

SCHEME = Scheme(bits=8, type="float")


class Float8Linear(QuantizedLinear):
    """A linear layer stored in fp8 (e4m3) with a scale for each output, as compressed-tensors' ``naive-quantized``.

    The weight becomes the inputs' dtype while the layer runs.

    Attributes:
        weight: float8_e4m3fn ``[out, in]``.
        weight_scale: Float ``[out, 1]``.
        bias: Float parameter ``[out]`` or ``None``.
    """

    weight: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Make a layer to be filled by ``load_state_dict``; until then its weights are arbitrary.

        Args:
            in_features: Size of an input.
            out_features: Size of an output.
            bias: If true, there is a bias.
            device: Where the weights lie; ``meta`` for a load with ``assign=True``.
            dtype: Dtype of the float layer that this one stands for.
        """
        super().__init__(in_features, out_features, bias, SCHEME, device, dtype)
        self.dtype = dtype
        weight = torch.empty(out_features, in_features, device=device, dtype=torch.float8_e4m3fn)
        self.register_buffer("weight", weight)
        scale = torch.empty(out_features, 1, device=device, dtype=scale_dtype(SCHEME, dtype))
        self.register_buffer("weight_scale", scale)

    @classmethod
    def from_quantized(cls, linear: nn.Linear, qweight: Tensor, qparams: QuantizationParams) -> Float8Linear:
        """Make a layer of fp8 values ``[out, in]`` and their parameters, with the bias of ``linear``."""
        sizes = linear.in_features, linear.out_features, linear.bias is not None
        layer = cls(*sizes, qweight.device, linear.weight.dtype)
        layer.weight, layer.weight_scale = qweight, qparams.scale.to(layer.weight_scale.dtype)
        return layer._with_bias_of(linear)

    def float_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the weight ``[out, in]`` that the stored one stands for, computed in ``dtype``."""
        if availability.makes(self.weight.numel(), self.weight.device, dtype):
            from sottovoce.runtime.kernels.weights import dequantize_float8

            return dequantize_float8(self.weight, self.weight_scale, dtype)
        return self.weight.to(dtype) * self.weight_scale.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float ``[..., in]`` to ``[..., out]`` of the same dtype."""
        return self.float_product(x)

    def extra_repr(self) -> str:
        """Return the sizes, as ``nn.Linear`` shows them."""
        return f"{super().extra_repr()}, fp8"
