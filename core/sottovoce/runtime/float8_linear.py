"""A linear layer with fp8 weights (weight only): the inputs stay as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.kernels import availability
from sottovoce.runtime.qparams import QuantizationParams, scale_dtype

SCHEME = Scheme(bits=8, type="float")


class Float8Linear(nn.Module):
    """A linear layer stored in fp8 (e4m3) with a scale for each output, as compressed-tensors' ``naive-quantized``.

    The weight becomes the inputs' dtype while the layer runs.

    Attributes:
        weight: float8_e4m3fn ``[out, in]``.
        weight_scale: Float ``[out, 1]``.
        bias: Float parameter ``[out]`` or ``None``.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: nn.Parameter | None
    scheme = SCHEME

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
            bias: Whether there is a bias.
            device: Where the weights lie; ``meta`` for a load with ``assign=True``.
            dtype: Of the float layer that this one stands for.
        """
        super().__init__()
        self.in_features, self.out_features, self.dtype = in_features, out_features, dtype
        weight = torch.empty(out_features, in_features, device=device, dtype=torch.float8_e4m3fn)
        self.register_buffer("weight", weight)
        self.register_buffer(
            "weight_scale", torch.empty(out_features, 1, device=device, dtype=scale_dtype(SCHEME, dtype))
        )
        made = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype), requires_grad=False)
        self.register_parameter("bias", made if bias else None)

    @classmethod
    def from_quantized(cls, linear: nn.Linear, steps: Tensor, qparams: QuantizationParams) -> Float8Linear:
        """The layer with the bias of ``linear`` and the fp8 values ``[out, in]`` of a qparams."""
        dtype = linear.weight.dtype
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, steps.device, dtype)
        made.weight, made.weight_scale = steps, qparams.scale.to(made.weight_scale.dtype)
        if linear.bias is not None:
            made.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        return made.train(linear.training)

    def dequantize(self) -> nn.Linear:
        """The float32 layer that this one stands for."""
        made = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        made.weight = nn.Parameter(self.weight.float() * self.weight_scale.float(), requires_grad=False)
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach().float().clone(), requires_grad=False)
        return made.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float ``[..., in]`` to ``[..., out]`` of the same dtype."""
        return functional.linear(x, self._float(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def extra_repr(self) -> str:
        """Sizes, as ``nn.Linear`` shows them."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, fp8"

    def _float(self, dtype: torch.dtype) -> Tensor:
        if availability.makes(self.weight.numel(), self.weight.device, dtype):
            from sottovoce.runtime.kernels.weights import dequantize_float8

            return dequantize_float8(self.weight, self.weight_scale, dtype)
        return self.weight.to(dtype) * self.weight_scale.to(dtype)

    def _apply(self, fn: object, recurse: bool = True) -> Float8Linear:
        weight, scale = self.weight, self.weight_scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight.dtype != weight.dtype:
            # `half()` and `to(dtype)` mean the float tensors; these stay what they are, on the new device.
            self.weight, self.weight_scale = weight.to(self.weight.device), scale.to(self.weight_scale.device)
        return self
