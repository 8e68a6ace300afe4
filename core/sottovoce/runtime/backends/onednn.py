"""int8 products on the CPU by oneDNN: the only module that calls ``torch.ops.onednn``.

PyTorch does not document these operators. This module states what they do, and its tests (``test_onednn.py``) hold
every function here against a plain computation. With torch 2.13:

* ``qlinear_prepack(weight, x_shape)`` takes s8 ``[out, in]`` and gives an opaque tensor ``[in, out]`` in the layout of
  the kernel. The shape hint changes nothing. ``to_dense()`` gives the integers back exactly.
* ``qlinear_pointwise`` multiplies u8 ``[rows, in]`` with one scale and zero point by such a weight with a float32 scale
  ``[out]`` and an int32 zero point ``[out]`` (zero), adds a float32 bias and writes float32, bfloat16 or u8. s8
  activations are accepted as well, and fall to a reference kernel a thousand times slower.
* The ``binary`` form adds a second tensor: as ``add`` into a new one, as ``sum`` into that tensor itself.
* Without VNNI instructions the products saturate in 16 bits; :func:`supported` finds that out.

Reading the bytes of a quantized tensor by ``int_repr`` copies them, at five times the cost of quantizing; a plain
tensor over the same storage does not. Quantized tensors are deprecated in PyTorch. Where they are gone,
:func:`quantize` does the same by ordinary operators, in about twice the time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sottovoce.runtime.backends import instructions
from sottovoce.runtime.kernels.availability import available, takes
from sottovoce.system.process_state import ignored_warnings

_TINY = 1e-30
_FILLED_UP = ((1 << 18, 64), (1 << 19, 16))
"""Numbers below which a weight is small, and the rows that its inputs are filled up to a multiple of. oneDNN keeps the
kernels of every number of rows for ever, whatever ``ONEDNN_PRIMITIVE_CACHE_CAPACITY`` says, and together they take more
memory than a small model. A row of a small weight costs two microseconds at most."""
_KERNEL_WORTH = 1 << 16
"""Number of inputs below which PyTorch's operators round them to 16 bits: loading numba takes about 100 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedWeight:
    """An s8 weight in oneDNN's layout, with the other operands of its products."""

    blocks: Tensor
    """Opaque s8 ``[in, out]``."""
    scale: Tensor
    """float32 ``[out]``."""
    zero_point: Tensor
    """int32 ``[out]``, all zero."""
    bias: Tensor | None
    """float32 ``[out]``."""

    def unpack(self) -> Tensor:
        """Return the weight as it was given to :func:`pack`: s8 ``[out, in]``, a new tensor."""
        return self.blocks.to_dense().t().contiguous()


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedActivations:
    """Matrix quantized with one scale: ``(values - zero_point) * scale``."""

    values: Tensor
    """u8 ``[rows, in]``."""
    scale: float
    zero_point: int
    rest: QuantizedActivations | None = None
    """Remainder of the rounding, quantized too, which makes 16 bits in all; ``None`` leaves it out."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedRows:
    """Matrix quantized with a scale for each row: ``(values - 128) * scale``."""

    values: Tensor
    """u8 ``[rows, in]``."""
    scale: Tensor
    """Float ``[rows, 1]``."""


def pack(weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> PackedWeight:
    """Bring a weight into the layout of the kernel; done once.

    Args:
        weight: s8 ``[out, in]`` on the CPU.
        scale: One float an output channel, ``[out]`` or ``[out, 1]``.
        bias: Float ``[out]``.
    """
    return PackedWeight(
        blocks=torch.ops.onednn.qlinear_prepack.default(weight.detach().contiguous(), None),
        # Copies, since a view would keep the whole of a mapped file in memory.
        scale=scale.detach().flatten().float().clone(),
        zero_point=torch.zeros(weight.shape[0], dtype=torch.int32),
        bias=None if bias is None else bias.detach().float().clone(),
    )


def quantize(x: Tensor) -> QuantizedActivations | None:
    """Quantize a float tensor dynamically to u8, with one scale and zero point.

    Zero is always exact. Rounds to nearest.

    Args:
        x: Float ``[..., in]`` on the CPU, with at least one element.

    Returns:
        The rows as a matrix, or ``None`` when the range is not finite.
    """
    x = x.reshape(-1, x.shape[-1]).float().contiguous()
    qparams = _qparams_of(x)
    return None if qparams is None else QuantizedActivations(_quantizer()(x, *qparams), *qparams)


def _qparams_of(x: Tensor) -> tuple[float, int] | None:
    """Return the scale and the zero point that cover a tensor and zero; ``None`` when a value is not finite."""
    lowest, highest = torch.aminmax(x)
    low, high = min(lowest.item(), 0.0), max(highest.item(), 0.0)
    scale = max((high - low) / 255, _TINY)
    return (scale, min(255, max(0, round(-low / scale)))) if math.isfinite(scale) else None


def quantize_wide(x: Tensor) -> QuantizedActivations | None:
    """Quantize a float tensor as :func:`quantize` does, and what that leaves over as well: 16 bits in two products.

    Args:
        x: Float ``[..., in]`` on the CPU, with at least one element.

    Returns:
        The rows as a matrix with their rest, or ``None`` when the range is not finite.
    """
    x = x.reshape(-1, x.shape[-1]).float().contiguous()
    qparams = _qparams_of(x)
    if qparams is None:
        return None
    scale, zero_point = qparams
    if x.numel() >= _KERNEL_WORTH and available():
        from sottovoce.runtime.kernels import rows

        values, rest = rows.quantize_wide_by(x, scale, zero_point)
    else:
        values = _quantizer()(x, scale, zero_point)
        left = torch.add(values.float().sub_(zero_point).mul_(-scale), x)
        rest = _quantizer()(left, scale / 254, 128)
    # At most half of a scale is left over, on both sides of zero.
    return QuantizedActivations(values, scale, zero_point, QuantizedActivations(rest, scale / 254, 128))


def quantize_by(x: Tensor, scale: float, zero_point: int) -> QuantizedActivations:
    """Quantize a float tensor by a range that is known beforehand.

    Args:
        x: Float ``[..., in]`` on the CPU; what lies outside the range is clipped.
        scale: Scale of the quantized values.
        zero_point: Quantized value that stands for zero, 0 to 255.
    """
    x = x.reshape(-1, x.shape[-1]).float().contiguous()
    return QuantizedActivations(_quantizer()(x, scale, zero_point), scale, zero_point)


def quantize_finite_by(x: Tensor, scale: float, zero_point: int) -> QuantizedActivations | None:
    """Quantize as :func:`quantize_by` does; return ``None`` when a value is not finite."""
    if takes(x):
        from sottovoce.runtime.kernels import rows

        values = rows.quantize_by(x.reshape(-1, x.shape[-1]), scale, zero_point)
        return None if values is None else QuantizedActivations(values, scale, zero_point)
    return quantize_by(x, scale, zero_point) if bool(torch.isfinite(x.sum(dtype=torch.float32))) else None


def quantize_rows(x: Tensor) -> QuantizedRows | None:
    """Quantize every row of a float tensor dynamically to u8, with zero in the middle.

    Args:
        x: Float ``[..., in]`` on the CPU, with at least one element.

    Returns:
        The rows as a matrix, or ``None`` when a value is not finite.
    """
    x = x.reshape(-1, x.shape[-1])
    if takes(x):
        from sottovoce.runtime.kernels import rows

        quantized = rows.quantize(x)
        return None if quantized is None else QuantizedRows(*quantized)
    # Rounded to the dtype of the product first: it is then scaled back by the very number that it was divided by.
    scale = (_magnitude(x).float() / 127).to(x.dtype).clamp_(min=_TINY)
    # In float64, where finite numbers have a finite sum.
    if not math.isfinite(scale.sum(dtype=torch.float64).item()):
        return None
    # In place where the conversion made a copy: a second one this large may have to be fetched from the system.
    factors = scale.float().reciprocal()
    scaled = x * factors if x.dtype == torch.float32 else x.float().mul_(factors)
    return QuantizedRows(_quantizer()(scaled.contiguous(), 1.0, 128), scale)


def _magnitude(x: Tensor) -> Tensor:
    """Return the largest magnitude of every row, ``[rows, 1]``; NaN where a value is."""
    if x.dtype != torch.bfloat16:
        return x.abs().amax(-1, keepdim=True)
    # Without their sign bfloat16 numbers order as their bits do, and PyTorch finds the largest integer much sooner.
    return (x.view(torch.int16) & 0x7FFF).amax(-1, keepdim=True).view(torch.bfloat16)


def linear_rows(x: QuantizedRows, weight: PackedWeight) -> Tensor:
    """Compute ``x @ weight.T + bias`` of rows with a scale each: ``[rows, out]`` of the dtype of the scales."""
    total = unscaled_rows(x, weight)
    scale = x.scale.to(total.dtype)
    # Into the product itself: new memory as large as that costs more than the arithmetic.
    if weight.bias is None:
        return total.mul_(scale)
    return torch.addcmul(weight.bias.to(total.dtype), total, scale, out=total)


def unscaled_rows(x: QuantizedRows, weight: PackedWeight) -> Tensor:
    """Compute :func:`linear_rows` without the rows' scales and the bias, for a caller that applies them itself."""
    dtype = torch.bfloat16 if x.scale.dtype == torch.bfloat16 else torch.float32
    operands = x.values, 1.0, 128, weight.blocks, weight.scale, weight.zero_point
    total: Tensor = torch.ops.onednn.qlinear_pointwise.default(*operands, None, 1.0, 0, dtype, "none", [], "")
    return total


def linear(
    x: QuantizedActivations, weight: PackedWeight, *, relu: bool = False, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Compute ``x @ weight.T + bias``, on request with the negative set to zero.

    Args:
        x: Quantized ``[rows, in]``.
        weight: Packed ``[out, in]``.
        relu: If true, ReLU is applied in the same pass.
        dtype: ``torch.float32`` or ``torch.bfloat16``.

    Returns:
        ``[rows, out]`` of ``dtype``.
    """
    activation = "relu" if relu else "none"
    if x.rest is not None:
        total = linear(x.rest, dataclasses.replace(weight, bias=None))
        return _add_product_(total, x, weight, activation).to(dtype)
    missing = _missing_rows(x, weight)
    values = functional.pad(x.values, (0, 0, 0, missing)) if missing else x.values
    operands = values, x.scale, x.zero_point, weight.blocks, weight.scale, weight.zero_point, weight.bias
    result: Tensor = torch.ops.onednn.qlinear_pointwise.default(*operands, 1.0, 0, dtype, activation, [], "")
    return result[: len(x.values)] if missing else result


def _missing_rows(x: QuantizedActivations, weight: PackedWeight) -> int:
    """Return how many rows an input is filled up by; their products are left out."""
    rows = len(x.values)
    multiple = next((rows for size, rows in _FILLED_UP if weight.blocks.numel() < size), 1)
    return -rows % multiple if rows > 1 else 0


def linear_add_(total: Tensor, x: QuantizedActivations, weight: PackedWeight) -> Tensor:
    """Compute ``total += x @ weight.T + bias``, in the pass that writes the product.

    Args:
        total: Contiguous float32 or bfloat16 ``[rows, out]``, changed in place.
        x: Quantized ``[rows, in]``.
        weight: Packed ``[out, in]``.

    Returns:
        ``total``.
    """
    if x.rest is not None:
        _add_product_(total, x.rest, dataclasses.replace(weight, bias=None), "none")
    return _add_product_(total, x, weight, "none")


def _add_product_(total: Tensor, x: QuantizedActivations, weight: PackedWeight, activation: str) -> Tensor:
    if _missing_rows(x, weight):
        total.add_(linear(dataclasses.replace(x, rest=None), weight))
        return total.relu_() if activation == "relu" else total
    operands = x.values, x.scale, x.zero_point, weight.blocks, weight.scale, weight.zero_point, total, weight.bias
    result: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
        *operands, 1.0, 0, total.dtype, 1.0, 0, "sum", 1.0, activation, [], ""
    )
    return result


@functools.cache
def supported() -> bool:
    """Return whether this CPU and this build of PyTorch compute the products fast and exactly; tried once."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not instructions.vnni():
        return False
    try:
        return _exact()
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def _exact() -> bool:
    """Compare a product of extreme values with the same in integers, and a packed weight with the plain one."""
    rows = torch.arange(5 * 72).remainder(256).view(5, 72)
    rows[0] = 255
    weight = torch.arange(24 * 72).remainder(255).sub(127).view(24, 72)
    weight[0] = 127
    scale = torch.linspace(0.5, 2.0, 24)
    packed = pack(weight.to(torch.int8), scale, torch.ones(24))
    x = QuantizedActivations(rows.to(torch.uint8), 0.5, 3)
    expected = ((rows - 3) @ weight.t()).float() * 0.5 * scale + 1
    total = torch.full_like(expected, 2.0)
    wide = dataclasses.replace(x, rest=QuantizedActivations(x.values, 0.25, 3))
    return (
        torch.allclose(linear(x, packed), expected)
        and torch.allclose(linear(x, packed, relu=True), expected.relu())
        and torch.allclose(linear(x, packed, dtype=torch.bfloat16).float(), expected, rtol=1e-2)
        and torch.allclose(linear_add_(total, x, packed), expected + 2)
        and torch.allclose(linear(wide, packed, relu=True), ((expected - 1) * 1.5 + 1).relu())
        and torch.equal(packed.unpack(), weight.to(torch.int8))
    )


@functools.cache
def _quantizer() -> Callable[[Tensor, float, int], Tensor]:
    """Return :func:`_bytes_by_kernel` where this PyTorch has it and it is right, else :func:`_bytes_by_operators`."""
    x = torch.tensor([[-1.1, 0.0, 0.3, 0.9]])
    try:
        # PyTorch warns of its quantized tensors once a process; the warning is spent here.
        with ignored_warnings():
            values = _bytes_by_kernel(x, 2 / 255, 128)
    except (RuntimeError, AttributeError, NotImplementedError):
        return _bytes_by_operators
    return _bytes_by_kernel if torch.equal(values, _bytes_by_operators(x, 2 / 255, 128)) else _bytes_by_operators


def _bytes_by_kernel(x: Tensor, scale: float, zero_point: int) -> Tensor:
    quantized = torch.quantize_per_tensor(x, scale, zero_point, torch.quint8)
    return torch.empty(0, dtype=torch.uint8).set_(quantized.untyped_storage(), 0, x.shape, quantized.stride())


def _bytes_by_operators(x: Tensor, scale: float, zero_point: int) -> Tensor:
    # PyTorch converts float to s8 by vector instructions but to u8 one by one, so u8 is s8 moved by 128.
    scaled = x.mul(1 / scale).round_().add_(zero_point - 128).clamp_(-128, 127)
    return scaled.to(torch.int8).view(torch.uint8).bitwise_xor_(128)
