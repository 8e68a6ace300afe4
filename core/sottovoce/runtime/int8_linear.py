"""A linear layer with s8 weights and activations rounded while it runs (W8A8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

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
from sottovoce.runtime.qparams import QuantizationParams

_GIVES_BACK: set[tuple[int, int]] = set()
"""Shapes whose weights the engine was seen to give back exactly; the layout depends on nothing else."""

BY_TENSOR = Scheme(bits=8, activations="dynamic", strategy="tensor")
"""Inputs are rounded by the range of the whole tensor."""


class Int8Linear(nn.Module):
    """A linear layer stored as int8, under the names that compressed-tensors gives its ``int-quantized`` weights.

    Each output channel has a scale (its largest weight is 127 steps). The input is rounded to 8 bits whenever the layer
    runs: by the range of each row, by that of the tensor, or by one that was calibrated. The first run, or
    :meth:`pack_`, brings the weight into the layout of the engine. oneDNN's gives the weight back exactly, so the plain
    one is let go and the layer takes the memory of its weight once: ``weight`` and the state dict rebuild it when
    asked, ``named_buffers`` leaves it out. On a GPU the plain weight is multiplied as it is.

    On other devices than these, and when gradients are recorded, the weight is dequantized and the product is float.
    A weight that is changed in place needs :meth:`unpack_` first; loading a state dict and moving do it themselves.

    Attributes:
        weight: int8 ``[out, in]``.
        weight_scale: float32 ``[out, 1]``.
        input_scale: float32 ``[1]``, when the range of the input is calibrated.
        input_zero_point: int8 ``[1]``, when the range of the input is calibrated.
        bias: Float parameter ``[out]`` or ``None``.
        generation: How often the weights may have changed; what is derived from :meth:`packed` is stale when it grew.
    """

    weight: Tensor
    weight_scale: Tensor
    input_scale: Tensor | None
    input_zero_point: Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        device: torch.device | str | None = None,
        scheme: Scheme = BY_TENSOR,
    ) -> None:
        """Make a layer to be filled by ``load_state_dict``; until then its weights are arbitrary.

        Args:
            in_features: Size of an input.
            out_features: Size of an output.
            bias: Whether there is a bias.
            device: Where the weights lie; ``meta`` for a load with ``assign=True``.
            scheme: How the input is rounded.
        """
        super().__init__()
        self.in_features, self.out_features, self.scheme = in_features, out_features, scheme
        self.register_buffer("weight", torch.empty(out_features, in_features, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.empty(out_features, 1, dtype=torch.float32, device=device))
        calibrated = scheme.activations == "static"
        self.register_buffer("input_scale", torch.ones(1, device=device) if calibrated else None)
        zero_point = torch.zeros(1, dtype=torch.int8, device=device) if calibrated else None
        self.register_buffer("input_zero_point", zero_point)
        empty = torch.empty(out_features, device=device) if bias else None
        self.register_parameter("bias", None if empty is None else nn.Parameter(empty, requires_grad=False))
        self.generation = 0
        self._kernel: Kernel | None = None
        self._packed: onednn.PackedWeight | None = None
        self._shared: SharedRows | None = None

    @classmethod
    def from_float(cls, linear: nn.Linear) -> Int8Linear:
        """Round ``linear`` to the nearest steps; it is left as it was.

        Raises:
            ValueError: A weight is not finite.
        """
        weight = linear.weight.detach().float()
        largest = weight.abs().amax(dim=1, keepdim=True)
        if not largest.is_meta and not bool(torch.isfinite(largest).all()):
            raise ValueError("a weight is not finite")
        scale = torch.where(largest > 0, largest / 127, 1.0).clamp_(min=torch.finfo(torch.float32).tiny)
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        made.weight = torch.round(weight / scale).clamp_(-127, 127).to(torch.int8)
        made.weight_scale = scale
        if linear.bias is not None:
            made.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        return made.train(linear.training)

    @classmethod
    def from_quantized(
        cls, linear: nn.Linear, steps: Tensor, qparams: QuantizationParams, inputs: InputRange | None = None
    ) -> Int8Linear:
        """The layer with the bias of ``linear`` and the steps ``[out, in]`` of a qparams.

        Args:
            linear: The float layer.
            steps: s8 ``[out, in]``.
            qparams: What they mean; its scheme says how the input is rounded.
            inputs: The calibrated range of the input, for static activations.
        """
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, "meta", qparams.scheme)
        made.weight, made.weight_scale = steps, qparams.scale.float()
        if made.input_scale is not None:
            scale, zero_point = inputs or InputRange(1.0, 0)
            made.input_scale = torch.tensor([scale], device=steps.device)
            made.input_zero_point = torch.tensor([zero_point], dtype=torch.int8, device=steps.device)
        if linear.bias is not None:
            made.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        return made.train(linear.training)

    @property
    def input_range(self) -> InputRange | None:
        """The calibrated range of the input, or ``None`` when the input is rounded by its own."""
        if self.input_scale is None or self.input_zero_point is None:
            return None
        return InputRange(self.input_scale.item(), int(self.input_zero_point.item()))

    def dequantize(self) -> nn.Linear:
        """The float32 layer that this one stands for."""
        made = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        made.weight = nn.Parameter(self.weight.float() * self.weight_scale, requires_grad=False)
        if self.bias is not None:
            made.bias = nn.Parameter(self.bias.detach().float().clone(), requires_grad=False)
        return made.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x: Float ``[..., in]``.

        Returns:
            ``[..., out]`` of the same dtype.
        """
        # A kernel is for the device of the weight: inputs from elsewhere are refused by the float product's own words.
        if x.device != self.weight_scale.device or not x.numel() or (x.requires_grad and torch.is_grad_enabled()):
            return self._float_product(x)
        if self._kernel is None:
            self.pack_()
        return (self._kernel or self._float_product)(x).to(x.dtype)

    def unscaled(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """The product before the scales of its rows, for a caller that applies them in a pass of its own.

        Args:
            x: Float ``[..., in]``.

        Returns:
            ``[..., out]`` and the scales ``[rows, 1]``; ``None`` where the layer has a bias or runs in another way.
        """
        by_row = self.scheme.strategy == "token" and self.scheme.activations == "dynamic"
        packed = self.packed() if by_row and self.bias is None and x.device.type == "cpu" and x.numel() else None
        rows = None if packed is None else (self._shared or onednn.quantize_rows)(x)
        if packed is None or rows is None:
            return None
        return onednn.unscaled_rows(rows, packed).view(*x.shape[:-1], -1), rows.scale

    def pack_(self) -> Int8Linear:
        """Bring the weight into the layout of the engine now, not in the first run."""
        device = self.weight_scale.device
        if self._kernel is not None or device.type not in ("cpu", "cuda"):
            return self
        if device.type == "cuda":
            self._pack_gpu_(device)
            return self
        chosen = engine()
        if chosen == "onednn":
            self._pack_onednn_()
        elif chosen == "linear_dynamic":
            by_row = self.scheme.strategy == "token" and self.scheme.activations == "dynamic"
            weight = self.weight, self.weight_scale, self.bias
            self._kernel = dynamic_kernel(*weight, by_row=by_row, otherwise=self._float_product)
        else:
            self._kernel = self._float_product
        return self

    def packed(self) -> onednn.PackedWeight | None:
        """The weight in oneDNN's layout, packed when it was not; ``None`` where another engine runs."""
        return self.pack_()._packed

    def unpack_(self) -> Int8Linear:
        """Go back to the plain weight; needed before it is changed in place."""
        self._buffers.update(weight=self.weight)
        self.generation += 1
        self._kernel = self._packed = None
        return self

    def extra_repr(self) -> str:
        """Sizes, as ``nn.Linear`` shows them."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _pack_onednn_(self) -> None:
        packed = onednn.pack(self.weight, self.weight_scale, self.bias)
        shape = self.out_features, self.in_features
        exact = shape in _GIVES_BACK or torch.equal(packed.unpack(), self.weight)
        self._packed = packed
        self._kernel = onednn_kernel(packed, self.scheme, self.input_range, self._float_product, self._shared)
        if exact:
            _GIVES_BACK.add(shape)
            # Last, so that another thread finds the one or the other.
            self._buffers.pop("weight", None)

    def _pack_gpu_(self, device: torch.device) -> None:
        if not int_mm.takes(self.weight) or gpu_engine(device) == "float":
            self._kernel = self._float_product
            return
        inputs = None
        if self.input_scale is not None and self.input_zero_point is not None:
            inputs = self.input_scale, self.input_zero_point
        by_row = inputs is None and self.scheme.strategy == "token"
        weight = int_mm.prepare(self.weight, self.weight_scale, self.bias, has_zero_point=not by_row)
        self._kernel = gpu_kernel(weight, self.scheme, inputs)

    def _float_product(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype) * self.weight_scale.to(x.dtype)
        return functional.linear(x, weight, None if self.bias is None else self.bias.to(x.dtype))

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        """``weight`` is rebuilt while it is only held packed."""
        packed = self.__dict__.get("_packed") if name == "weight" else None
        if packed is not None and self._buffers.get("weight") is None:
            return packed.unpack()  # type: ignore[no-any-return]
        return super().__getattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes: the plain weight, not the packed one."""
        buffers = {**self._buffers, "weight": self.weight}
        return {**self.__dict__, "_buffers": buffers, "_kernel": None, "_packed": None, "_shared": None}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name in ("weight", "weight_scale", "input_scale", "input_zero_point", "bias"):
            value = getattr(self, name)
            if value is not None:
                destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        self.unpack_()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Int8Linear:
        scale, input_scale = self.weight_scale, self.input_scale
        if fn(scale) is not scale:
            self.unpack_()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.weight_scale.dtype != torch.float32:
            # Halving a model must not round the scales.
            self.weight_scale = scale.to(self.weight_scale.device)
            self.input_scale = None if input_scale is None else input_scale.to(self.weight_scale.device)
        return self


def share_rounding_(*layers: nn.Module) -> bool:
    """Let layers that read the very same tensor one after another round it once; needs a range for each row.

    Returns:
        Whether all of them are such layers; otherwise nothing is done.
    """
    readers = [layer for layer in layers if isinstance(layer, Int8Linear)]
    if len(readers) < len(layers) or any(layer.scheme.strategy != "token" or layer.input_range for layer in readers):
        return False
    shared = SharedRows(len(readers))
    for layer in readers:
        layer.unpack_()._shared = shared
    return True
