"""Engines of int8 products: oneDNN, PyTorch's own dynamic quantization, cuBLASLt on GPUs, or a float product."""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sottovoce.errors import UsageError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import int_mm, onednn
from sottovoce.system.process_state import ignored_warnings

ENGINE_VARIABLE = "SOTTOVOCE_INT8_ENGINE"
"""Environment variable that overrides :func:`engine`'s choice; ``float`` holds for GPUs as well."""

_logger = logging.getLogger("sottovoce")
_warn_lock = threading.Lock()
_warned: set[str] = set()

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


def engine() -> str:
    """Choose the engine of int8 products for this CPU and this build of PyTorch.

    ``onednn`` is the fastest and needs AVX512-VNNI, AVX-VNNI or AMX. ``linear_dynamic`` is PyTorch's own dynamic
    quantization, which takes the range of the input itself also where one was calibrated. ``float`` dequantizes for
    every product and quantizes no input. A small product shows once whether an engine works.

    Returns:
        ``onednn``, ``linear_dynamic`` or ``float``.

    Raises:
        UsageError: ``SOTTOVOCE_INT8_ENGINE`` names an engine that is unknown or does not work here.
    """
    choice = os.environ.get(ENGINE_VARIABLE, "")
    if choice:
        if choice not in _ENGINES:
            raise UsageError(f"{ENGINE_VARIABLE}={choice}: no such engine (known: {', '.join(_ENGINES)})")
        if not _ENGINES[choice]():
            raise UsageError(f"{ENGINE_VARIABLE}={choice}: this CPU or this PyTorch cannot run it; unset it")
        return choice
    name = next(name for name, works in _ENGINES.items() if works())
    if name != "onednn":
        reason = "PyTorch has no oneDNN kernel for them here" if onednn.vnni() else "the CPU has no VNNI instructions"
        _warn_once(name, reason)
    return name


def gpu_engine(device: torch.device) -> str:
    """Choose the engine of int8 products for a GPU, by trying a small product once: ``int_mm`` or ``float``."""
    if os.environ.get(ENGINE_VARIABLE) == "float":
        return "float"
    if int_mm.supported(device):
        return "int_mm"
    _warn_once("float", f"{device} does not multiply integers by PyTorch's kernel")
    return "float"


def gpu_engines() -> dict[str, str]:
    """Return :func:`gpu_engine` of every GPU that PyTorch has, by its number and name."""
    engines = {}
    for number in range(torch.cuda.device_count()):
        name = f"cuda:{number} {torch.cuda.get_device_name(number)}"
        engines[name] = gpu_engine(torch.device("cuda", number))
    return engines


def _warn_once(name: str, reason: str) -> None:
    with _warn_lock:
        if reason in _warned:
            return
        _warned.add(reason)
    _logger.warning("int8 layers run by %r, slower than they could: %s", name, reason)


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

    It takes the range of the whole tensor: where each row has a range, the rows are brought to one size first.
    """
    product = _linear_dynamic(weight, scale, None if by_row else bias)

    def kernel(x: Tensor) -> Tensor:
        largest = x.abs().amax(-1, keepdim=True).float()
        if not bool(torch.isfinite(largest).all()):
            return otherwise(x)
        if not by_row:
            return product(x)
        largest.clamp_(min=torch.finfo(torch.float32).tiny)
        total = product(x / largest) * largest
        return total if bias is None else total + bias

    return kernel


def _linear_dynamic(weight: Tensor, scale: Tensor, bias: Tensor | None) -> Kernel:
    """Return PyTorch's dynamic product; without VNNI with 7 bits for the input, as 8 would saturate."""
    with ignored_warnings():
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
    expected = (x.double() @ weight.t().double()).float() * scale
    try:
        actual = _linear_dynamic(weight.to(torch.int8), scale, None)(x)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(actual, expected, rtol=2e-2, atol=float(expected.abs().max()) * 1e-2)


_ENGINES: dict[str, Callable[[], bool]] = {
    "onednn": onednn.supported,
    "linear_dynamic": _linear_dynamic_works,
    "float": lambda: True,
}
