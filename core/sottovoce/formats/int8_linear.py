"""A linear layer with s8 weights and activations rounded while it runs (W8A8), and the engines that run it."""

from __future__ import annotations

import functools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.errors import UsageError
from sottovoce.formats import onednn
from sottovoce.formats.grid import Grid
from sottovoce.scheme import Scheme

ENGINE_VARIABLE = "SOTTOVOCE_INT8_ENGINE"
"""Environment variable that names the engine instead of :func:`engine`'s choice."""

_logger = logging.getLogger("sottovoce")
_warn_lock = threading.Lock()
_warned: set[str] = set()

Kernel = Callable[[Tensor], Tensor]
"""The product with one packed weight: float ``[..., in]`` to float32 ``[..., out]``."""


BY_TENSOR = Scheme(bits=8, activations="dynamic", strategy="tensor")
"""Inputs are rounded by the range of the whole tensor."""


class InputRange(NamedTuple):
    """A calibrated range of 255 steps."""

    scale: float
    zero_point: int
    """The step that is zero, -128 to 127."""


class Int8Linear(nn.Module):
    """A linear layer stored as int8, under the names that compressed-tensors gives its ``int-quantized`` weights.

    Each output channel has a scale (its largest weight is 127 steps). The input is rounded to 8 bits whenever the layer
    runs: by the range of each row, by that of the tensor, or by one that was calibrated. The first run, or
    :meth:`pack_`, brings the weight into the layout of the engine. oneDNN's gives the weight back exactly, so the plain
    one is let go and the layer takes the memory of its weight once: ``weight`` and the state dict rebuild it when
    asked, ``named_buffers`` leaves it out.

    On other devices than the CPU, and when gradients are recorded, the weight is dequantized and the product is float.
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
    def from_steps(cls, linear: nn.Linear, steps: Tensor, grid: Grid, inputs: InputRange | None = None) -> Int8Linear:
        """The layer with the bias of ``linear`` and the steps ``[out, in]`` of a grid.

        Args:
            linear: The float layer.
            steps: s8 ``[out, in]``.
            grid: What they mean; its scheme says how the input is rounded.
            inputs: The calibrated range of the input, for static activations.
        """
        made = cls(linear.in_features, linear.out_features, linear.bias is not None, "meta", grid.scheme)
        made.weight, made.weight_scale = steps, grid.scale.float()
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
        if x.device.type != "cpu" or not x.numel() or (x.requires_grad and torch.is_grad_enabled()):
            return self._float_product(x)
        if self._kernel is None:
            self.pack_()
        return (self._kernel or self._float_product)(x).to(x.dtype)

    def pack_(self) -> Int8Linear:
        """Bring the weight into the layout of the engine now, not in the first run."""
        if self._kernel is not None or self.weight.device.type != "cpu":
            return self
        chosen = engine()
        if chosen == "onednn":
            self._pack_onednn_()
        elif chosen == "linear_dynamic":
            by_row = self.scheme.strategy == "token" and self.scheme.activations == "dynamic"
            product = _linear_dynamic(self.weight, self.weight_scale, None if by_row else self.bias)
            self._kernel = functools.partial(
                _dynamic, product, self.bias if by_row else None, by_row, self._float_product
            )
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
        exact = torch.equal(packed.unpack(), self.weight)
        self._packed, self._kernel = packed, self._onednn_kernel(packed)
        if exact:
            # Last, so that another thread finds the one or the other.
            self._buffers.pop("weight", None)

    def _onednn_kernel(self, packed: onednn.PackedWeight) -> Kernel:
        if (inputs := self.input_range) is not None:
            return functools.partial(_onednn_static, packed, inputs, self._float_product)
        by_row = self.scheme.strategy == "token"
        return functools.partial(_onednn_rows if by_row else _onednn, packed, self._float_product)

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
        return {**self.__dict__, "_buffers": buffers, "_kernel": None, "_packed": None}

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


def engine() -> str:
    """What runs int8 products on this CPU with this build of PyTorch.

    ``onednn`` is the fastest and needs AVX512-VNNI, AVX-VNNI or AMX. ``linear_dynamic`` is PyTorch's own dynamic
    quantization, which rounds by the range of the input also where one was calibrated. ``float`` dequantizes for every
    product and rounds no input. What can be used is found by trying a small product, once.

    Returns:
        ``onednn``, ``linear_dynamic`` or ``float``.

    Raises:
        UsageError: ``SOTTOVOCE_INT8_ENGINE`` names an engine that is unknown or does not work here.
    """
    asked = os.environ.get(ENGINE_VARIABLE, "")
    if asked:
        if asked not in _ENGINES:
            raise UsageError(f"{ENGINE_VARIABLE}={asked}: no such engine (known: {', '.join(_ENGINES)})")
        if not _ENGINES[asked]():
            raise UsageError(f"{ENGINE_VARIABLE}={asked}: this CPU or this PyTorch cannot run it; unset it")
        return asked
    chosen = next(name for name, works in _ENGINES.items() if works())
    if chosen != "onednn":
        _warn_once(chosen)
    return chosen


def _warn_once(chosen: str) -> None:
    with _warn_lock:
        if chosen in _warned:
            return
        _warned.add(chosen)
    reason = "PyTorch has no oneDNN kernel for them here" if onednn.vnni() else "the CPU has no VNNI instructions"
    _logger.warning("int8 layers run by %r, slower than they could: %s", chosen, reason)


def _onednn(packed: onednn.PackedWeight, otherwise: Kernel, x: Tensor) -> Tensor:
    quantized = onednn.quantize(x)
    if quantized is None:
        return otherwise(x)
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    return onednn.linear(quantized, packed, dtype=dtype).view(*x.shape[:-1], -1)


def _onednn_rows(packed: onednn.PackedWeight, otherwise: Kernel, x: Tensor) -> Tensor:
    quantized = onednn.quantize_rows(x)
    if quantized is None:
        return otherwise(x)
    return onednn.linear_rows(quantized, packed).view(*x.shape[:-1], -1)


def _onednn_static(packed: onednn.PackedWeight, inputs: InputRange, otherwise: Kernel, x: Tensor) -> Tensor:
    if not bool(torch.isfinite(x.sum(dtype=torch.float32))):
        return otherwise(x)
    dtype = torch.bfloat16 if x.dtype == torch.bfloat16 else torch.float32
    quantized = onednn.quantize_by(x, inputs.scale, inputs.zero_point + 128)
    return onednn.linear(quantized, packed, dtype=dtype).view(*x.shape[:-1], -1)


def _dynamic(product: Kernel, bias: Tensor | None, by_row: bool, otherwise: Kernel, x: Tensor) -> Tensor:
    """PyTorch's product rounds by the range of the tensor: rows of other ranges are brought to one size first."""
    largest = x.abs().amax(-1, keepdim=True).float()
    if not bool(torch.isfinite(largest).all()):
        return otherwise(x)
    if not by_row:
        return product(x)
    largest.clamp_(min=torch.finfo(torch.float32).tiny)
    total = product(x / largest) * largest
    return total if bias is None else total + bias


def _linear_dynamic(weight: Tensor, scale: Tensor, bias: Tensor | None) -> Kernel:
    """PyTorch's dynamic product; without VNNI with 7 bits for the input, as 8 would saturate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zero_point = torch.zeros(weight.shape[0], dtype=torch.long)
        quantized = torch._make_per_channel_quantized_tensor(
            weight.contiguous(), scale.flatten().double(), zero_point, 0
        )
        packed = torch.ops.quantized.linear_prepack(quantized, None if bias is None else bias.detach().float())
    reduce_range = not onednn.vnni()

    def product(x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).float().contiguous()
        result: Tensor = torch.ops.quantized.linear_dynamic(rows, packed, reduce_range)
        return result.view(*x.shape[:-1], -1)

    return product


@functools.cache
def _linear_dynamic_works() -> bool:
    weight = torch.arange(24 * 72).remainder(255).sub(127).view(24, 72)
    weight[0] = 127
    x = torch.arange(3 * 72).remainder(256).view(3, 72).div(128)
    x[0] = 255 / 128
    scale = torch.linspace(0.5, 2.0, 24)
    want = (x.double() @ weight.t().double()).float() * scale
    try:
        got = _linear_dynamic(weight.to(torch.int8), scale, None)(x)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(got, want, rtol=2e-2, atol=float(want.abs().max()) * 1e-2)


_ENGINES: dict[str, Callable[[], bool]] = {
    "onednn": onednn.supported,
    "linear_dynamic": _linear_dynamic_works,
    "float": lambda: True,
}
