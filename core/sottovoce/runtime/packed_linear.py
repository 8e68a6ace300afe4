"""A linear layer with integer weights packed into words (weight only): the inputs stay float."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.errors import CheckpointError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import onednn
from sottovoce.runtime.kernels import availability
from sottovoce.runtime.packing import pack, unpack, words
from sottovoce.runtime.qparams import QuantizationParams, scale_dtype


class PackedLinear(nn.Module):
    """A linear layer stored in 4 or 8 bits under the names of compressed-tensors' ``pack-quantized``.

    Truly so many bits, in memory as on disk: the weight becomes float while the layer runs, and is let go. A forward
    pass never holds more than one such layer's float weight.

    Attributes:
        weight_packed: int32 ``[out, words]``.
        weight_scale: Float ``[out, groups]``.
        weight_zero_point: int32 ``[words, groups]`` along the outputs; absent when the scheme is symmetric.
        weight_shape: int64 ``[2]``.
        bias: Float parameter ``[out]`` or ``None``.
    """

    weight_packed: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor | None
    weight_shape: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        scheme: Scheme,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Make a layer to be filled by ``load_state_dict``; until then its weights are arbitrary.

        Args:
            in_features: Size of an input.
            out_features: Size of an output.
            bias: Whether there is a bias.
            scheme: How the weight is stored.
            device: Where the weights lie; ``meta`` for a load with ``assign=True``.
            dtype: Of the float layer that this one stands for.
        """
        super().__init__()
        self.in_features, self.out_features, self.scheme, self.dtype = in_features, out_features, scheme, dtype
        groups = in_features // scheme.group_size if scheme.group_size else 1
        packed = torch.empty(out_features, words(in_features, scheme.bits), dtype=torch.int32, device=device)
        self.register_buffer("weight_packed", packed)
        scale = torch.empty(out_features, groups, dtype=scale_dtype(scheme, dtype), device=device)
        self.register_buffer("weight_scale", scale)
        zero_point = torch.empty(words(out_features, scheme.bits), groups, dtype=torch.int32, device=device)
        self.register_buffer("weight_zero_point", None if scheme.symmetric else zero_point)
        self.register_buffer("weight_shape", torch.tensor([out_features, in_features], device=device))
        made = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype), requires_grad=False)
        self.register_parameter("bias", made if bias else None)
        self._held: Tensor | None = None

    @classmethod
    def from_quantized(cls, linear: nn.Linear, steps: Tensor, qparams: QuantizationParams) -> PackedLinear:
        """The layer with the bias of ``linear`` and the steps ``[out, in]`` of a qparams."""
        has_bias, dtype = linear.bias is not None, linear.weight.dtype
        made = cls(linear.in_features, linear.out_features, has_bias, qparams.scheme, steps.device, dtype)
        made.weight_packed = pack(steps, qparams.scheme.bits)
        made.weight_scale = qparams.scale.to(made.weight_scale.dtype)
        if qparams.zero_point is not None:
            made.weight_zero_point = pack(qparams.zero_point.to(torch.int8).t(), qparams.scheme.bits).t().contiguous()
        if linear.bias is not None:
            made.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        return made.train(linear.training)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        shape, own = state_dict.get(f"{prefix}weight_shape"), [self.out_features, self.in_features]
        if shape is not None and not shape.is_meta and shape.tolist() != own:
            raise CheckpointError(f"the weight_shape of the layer {prefix[:-1]!r} is not {own}; the model is damaged")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def qparams(self) -> QuantizationParams:
        """The steps' meaning."""
        zero_point = None
        if self.weight_zero_point is not None:
            packed = self.weight_zero_point.t()
            zero_point = unpack(packed, self.scheme.bits, self.out_features).t().float()
        return QuantizationParams(self.scheme, self.weight_scale.float(), zero_point)

    def qweight(self) -> Tensor:
        """The stored integers, s8 ``[out, in]``."""
        return unpack(self.weight_packed, self.scheme.bits, self.in_features)

    def dequantize(self) -> nn.Linear:
        """The float32 layer that this one stands for."""
        made = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        made.weight = nn.Parameter(self._weight(torch.float32), requires_grad=False)
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach().float().clone(), requires_grad=False)
        return made.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float ``[..., in]`` to ``[..., out]`` of the same dtype."""
        weight = self._weight(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad and x.numel() > 0
        if plain and onednn.float_supported():
            return onednn.float_linear(x, weight, bias)
        return functional.linear(x, weight, bias)

    def extra_repr(self) -> str:
        """Sizes and width, as ``nn.Linear`` shows them."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, bits={self.scheme.bits}, group_size={self.scheme.group_size}"

    def _weight(self, dtype: torch.dtype) -> Tensor:
        if self._held is not None:
            if self._held.dtype != dtype:
                self._held = self._float(dtype)
            return self._held
        return self._float(dtype)

    def _float(self, dtype: torch.dtype) -> Tensor:
        # In the dtype of the product, as the libraries do that make the whole model float when they load it.
        qparams = self.qparams()
        # A group of an odd number of half bytes begins within a byte.
        whole = self.scheme.bits == 8 or self.in_features // qparams.scale.shape[1] % 2 == 0
        if whole and availability.makes(self.out_features * self.in_features, self.weight_packed.device, dtype):
            from sottovoce.runtime.kernels.weights import dequantize

            given = self.weight_packed, self.scheme.bits, self.in_features
            return dequantize(*given, qparams.scale, qparams.zero_point, dtype)
        return qparams.dequantize(self.qweight(), dtype)

    def _apply(self, fn: object, recurse: bool = True) -> PackedLinear:
        scale = self.weight_scale
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight_scale.dtype != scale.dtype:
            # Halving a model must not round the scales.
            self.weight_scale = scale.to(self.weight_scale.device)
        return self


@contextmanager
def float_weights_held(module: nn.Module) -> Iterator[None]:
    """Meanwhile the layers of ``module`` keep their float weights once they have run, for many runs in a row."""
    layers = [child for child in module.modules() if isinstance(child, PackedLinear)]
    for layer in layers:
        layer._held = torch.empty(0, dtype=torch.bool)
    try:
        yield
    finally:
        for layer in layers:
            layer._held = None
