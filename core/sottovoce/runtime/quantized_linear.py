"""The base of linear layers whose weight is stored in few bits: what all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.recipe.scheme import Scheme


class QuantizedLinear(nn.Module):
    """Linear layer with a quantized weight and a float bias; a subclass registers the buffers that it stores.

    Attributes:
        weight_scale: Float ``[out, groups]``.
        bias: Float parameter ``[out]`` or ``None``.
        generation: Number of times that the tensors may have changed; what is derived from them is stale when it has
            grown.
    """

    weight_scale: Tensor
    bias: nn.Parameter | None
    generation: int

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        scheme: Scheme,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Make a layer without a weight yet.

        Args:
            in_features: Size of an input.
            out_features: Size of an output.
            bias: If true, there is a bias.
            scheme: How the weight is stored and the input is quantized.
            device: Where the bias lies; ``meta`` for a load with ``assign=True``.
            dtype: Dtype of the bias.
        """
        super().__init__()
        self.in_features, self.out_features, self.scheme = in_features, out_features, scheme
        self.generation = 0
        empty = torch.empty(out_features, device=device, dtype=dtype) if bias else None
        self.register_parameter("bias", None if empty is None else nn.Parameter(empty, requires_grad=False))

    def refresh_(self) -> Self:
        """Forget what was derived from the tensors; needed after one of them, such as the bias, changed in place."""
        self.generation += 1
        return self

    def float_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the weight ``[out, in]`` that the stored one stands for, computed in ``dtype``."""
        raise NotImplementedError

    def dequantize(self) -> nn.Linear:
        """Return the float32 layer that this one stands for."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        linear.weight = nn.Parameter(self.float_weight(torch.float32), requires_grad=False)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().float().clone(), requires_grad=False)
        return linear.train(self.training)

    def float_product(self, x: Tensor) -> Tensor:
        """Multiply by the dequantized weight: float ``[..., in]`` to ``[..., out]`` of the same dtype."""
        return functional.linear(x, self.float_weight(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    def extra_repr(self) -> str:
        """Return the sizes, as ``nn.Linear`` shows them."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _with_bias_of(self, linear: nn.Linear) -> Self:
        """Take a copy of the bias of a float layer, and its mode."""
        if linear.bias is not None:
            self.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        return self.train(linear.training)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before: dict[str, Any] = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, stored in before.items():
            moved = self._buffers[name]
            if moved is not None and moved.dtype != stored.dtype:
                # `half()` and `to(dtype)` mean float models; what is stored keeps its precision, on the new device.
                self._buffers[name] = stored.to(moved.device)
        return self
