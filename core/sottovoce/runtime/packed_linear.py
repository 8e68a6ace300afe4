"""A linear layer with integer weights packed into words (weight only): the inputs stay float."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.errors import CheckpointError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import onednn_float
from sottovoce.runtime.kernels import availability
from sottovoce.runtime.packing import pack, unpack, words
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams, scale_dtype
from sottovoce.runtime.quantized_linear import QuantizedLinear


class PackedLinear(QuantizedLinear):
    """A linear layer stored in 2, 3, 4 or 8 bits under the names of compressed-tensors' ``pack-quantized``.

    Truly so many bits, in memory as on disk: the weight becomes float while the layer runs, and is freed. A forward
    pass never holds more than one such layer's float weight.

    Attributes:
        weight_packed: int32 ``[out, words]``.
        weight_scale: Float ``[out, groups]``.
        weight_zero_point: int32 ``[words, groups]`` along the outputs; absent when the scheme is symmetric.
        weight_shape: int64 ``[2]``.
        bias: Float parameter ``[out]`` or ``None``.
    """

    weight_packed: Tensor
    weight_zero_point: Tensor | None
    weight_shape: Tensor

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
            bias: If true, there is a bias.
            scheme: How the weight is stored.
            device: Where the weights lie; ``meta`` for a load with ``assign=True``.
            dtype: Dtype of the float layer that this one stands for.
        """
        super().__init__(in_features, out_features, bias, scheme, device, dtype)
        self.dtype = dtype
        groups = in_features // scheme.group_size if scheme.group_size else 1
        packed = torch.empty(out_features, words(in_features, scheme.bits), dtype=torch.int32, device=device)
        self.register_buffer("weight_packed", packed)
        scale = torch.empty(out_features, groups, dtype=scale_dtype(scheme, dtype), device=device)
        self.register_buffer("weight_scale", scale)
        zero_point = torch.empty(words(out_features, scheme.bits), groups, dtype=torch.int32, device=device)
        self.register_buffer("weight_zero_point", None if scheme.symmetric else zero_point)
        self.register_buffer("weight_shape", torch.tensor([out_features, in_features], device=device))
        self._held: Tensor | None = None

    @classmethod
    def from_quantized(cls, linear: nn.Linear, qweight: Tensor, qparams: QuantizationParams) -> PackedLinear:
        """Make a layer of quantized values ``[out, in]`` and their parameters, with the bias of ``linear``."""
        sizes = linear.in_features, linear.out_features, linear.bias is not None
        scheme = qparams.scheme
        layer = cls(*sizes, scheme, qweight.device, linear.weight.dtype)
        layer.weight_packed = pack(qweight, scheme.bits)
        layer.weight_scale = qparams.scale.to(layer.weight_scale.dtype)
        if qparams.zero_point is not None:
            layer.weight_zero_point = pack(qparams.zero_point.to(torch.int8).t(), scheme.bits).t().contiguous()
        return layer._with_bias_of(linear)

    def qparams(self) -> QuantizationParams:
        """Return the scales and zero points."""
        zero_point = None
        if self.weight_zero_point is not None:
            packed = self.weight_zero_point.t()
            zero_point = unpack(packed, self.scheme.bits, self.out_features).t().float()
        return QuantizationParams(self.scheme, self.weight_scale.float(), zero_point)

    def qweight(self) -> Tensor:
        """Return the quantized values, s8 ``[out, in]``."""
        return unpack(self.weight_packed, self.scheme.bits, self.in_features)

    def by_channel(self) -> tuple[Tensor, Tensor]:
        """Return the weight as int8 with one scale for each output, for engines that multiply nothing else.

        Exact where it is stored in that way. Groups of inputs with scales of their own are rounded once more, by at
        most a 254th of the largest weight of their output.

        Returns:
            s8 ``[out, in]`` and float32 ``[out, 1]``.
        """
        qparams = self.qparams()
        if self.scheme.bits == 8 and self.scheme.symmetric and qparams.scale.shape[1] == 1:
            return self.qweight(), qparams.scale
        weight = self._dequantized_weight(torch.float32)
        by_channel = compute_qparams(weight, Scheme(bits=8))
        return by_channel.quantize(weight), by_channel.scale

    def float_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the weight ``[out, in]`` that the stored one stands for, computed in ``dtype``."""
        if self._held is None:
            return self._dequantized_weight(dtype)
        if self._held.dtype != dtype:
            self._held = self._dequantized_weight(dtype)
        return self._held

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float ``[..., in]`` to ``[..., out]`` of the same dtype."""
        plain = x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad and x.numel() > 0
        if plain and onednn_float.float_supported():
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return onednn_float.float_linear(x, self.float_weight(x.dtype), bias)
        return self.float_product(x)

    def extra_repr(self) -> str:
        """Return the sizes and the width, as ``nn.Linear`` shows them."""
        return f"{super().extra_repr()}, bits={self.scheme.bits}, group_size={self.scheme.group_size}"

    def _dequantized_weight(self, dtype: torch.dtype) -> Tensor:
        # In the dtype of the product, as the libraries do that make the whole model float when they load it.
        qparams = self.qparams()
        if availability.makes(self.out_features * self.in_features, self.weight_packed.device, dtype):
            from sottovoce.runtime.kernels.weights import dequantize

            stored = self.weight_packed, self.scheme.bits, self.in_features
            return dequantize(*stored, qparams.scale, qparams.zero_point, dtype)
        return qparams.dequantize(self.qweight(), dtype)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        stored, shape = state_dict.get(f"{prefix}weight_shape"), [self.out_features, self.in_features]
        if stored is not None and not stored.is_meta and stored.tolist() != shape:
            raise CheckpointError(f"the weight_shape of the layer {prefix[:-1]!r} is not {shape}; the model is damaged")
        self.refresh_()
        super()._load_from_state_dict(state_dict, prefix, *rest)


@contextmanager
def float_weights_held(module: nn.Module) -> Iterator[None]:
    """Have the layers of ``module`` keep their float weights once they have run, for many runs in a row."""
    layers = [child for child in module.modules() if isinstance(child, PackedLinear)]
    for layer in layers:
        layer._held = torch.empty(0, dtype=torch.bool)
    try:
        yield
    finally:
        for layer in layers:
            layer._held = None
