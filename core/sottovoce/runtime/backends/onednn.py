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

import functools
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sottovoce.runtime.kernels.availability import takes
from sottovoce.system.process_state import ignored_warnings

_TINY = 1e-30
_VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
_BFLOAT16 = ("avx512_bf16", "amx_bf16")


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
    lowest, highest = torch.aminmax(x)
    low, high = min(lowest.item(), 0.0), max(highest.item(), 0.0)
    scale = max((high - low) / 255, _TINY)
    if not math.isfinite(scale):
        return None
    zero_point = min(255, max(0, round(-low / scale)))
    return QuantizedActivations(_quantizer()(x, scale, zero_point), scale, zero_point)


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
    operands = x.values, x.scale, x.zero_point, weight.blocks, weight.scale, weight.zero_point, weight.bias
    activation = "relu" if relu else "none"
    result: Tensor = torch.ops.onednn.qlinear_pointwise.default(*operands, 1.0, 0, dtype, activation, [], "")
    return result


def linear_add_(total: Tensor, x: QuantizedActivations, weight: PackedWeight) -> Tensor:
    """Compute ``total += x @ weight.T + bias``, in the pass that writes the product.

    Args:
        total: Contiguous float32 or bfloat16 ``[rows, out]``, changed in place.
        x: Quantized ``[rows, in]``.
        weight: Packed ``[out, in]``.

    Returns:
        ``total``.
    """
    operands = x.values, x.scale, x.zero_point, weight.blocks, weight.scale, weight.zero_point, total, weight.bias
    result: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
        *operands, 1.0, 0, total.dtype, 1.0, 0, "sum", 1.0, "none", [], ""
    )
    return result


def float_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute ``x @ weight.T + bias`` in float32 by oneDNN; PyTorch's own library takes twice the time on some CPUs.

    Args:
        x: Float32 ``[..., in]``.
        weight: Float32 ``[out, in]``, as it is.
        bias: Float32 ``[out]``.
    """
    rows = x.reshape(-1, x.shape[-1])
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, "none", [], "")
    return result.view(*x.shape[:-1], -1)


def convolve_gelu(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """Compute the GELU of a convolution, in the pass that writes it.

    Args:
        x: Float ``[batch, channels, height, width]``.
        weight: Of the same dtype, ``[out, channels, height, width]``.
        bias: Of the same dtype, ``[out]``.
        stride: Along both axes.
        padding: Along both axes.
    """
    result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, list(padding), list(stride), [1, 1], 1, "gelu", [], "none"
    )
    return result


@functools.cache
def convolution_supported() -> bool:
    """Return whether :func:`convolve_gelu` is there and right; tried once."""
    x, weight = torch.linspace(-2, 2, 60).view(1, 3, 4, 5), torch.linspace(-1, 1, 54).view(2, 3, 3, 3)
    bias = torch.tensor([0.5, -0.5])
    try:
        with torch.inference_mode():
            actual = convolve_gelu(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), (2, 2), (1, 1)).float()
            expected = functional.gelu(functional.conv2d(x, weight, bias, 2, 1))
            return torch.allclose(actual, expected, rtol=0.02, atol=0.05)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def matmul_transposed(a: Tensor, b: Tensor) -> Tensor:
    """Compute ``a @ b.T`` in float32, by oneDNN on the CPU where it is there.

    Args:
        a: Float32 ``[rows, in]``.
        b: Float32 ``[out, in]``.
    """
    if a.device.type != "cpu" or not a.numel() or not float_supported():
        return a @ b.t()
    return float_linear(a.contiguous(), b.contiguous(), None)


@functools.cache
def float_supported() -> bool:
    """Return whether :func:`float_linear` is there and right; tried once."""
    x, weight, bias = torch.linspace(-1, 1, 30).view(2, 3, 5), torch.linspace(-2, 1, 20).view(4, 5), torch.ones(4)
    try:
        with torch.inference_mode():
            return torch.allclose(float_linear(x, weight, bias), x @ weight.t() + bias, atol=1e-5)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


@functools.cache
def supported() -> bool:
    """Return whether this CPU and this build of PyTorch compute the products fast and exactly; tried once."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not vnni():
        return False
    try:
        return _exact()
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


@functools.cache
def vnni() -> bool:
    """Return whether the CPU multiplies u8 by s8 without saturating in 16 bits (AVX512-VNNI, AVX-VNNI or AMX)."""
    return any(map(_capable, _VNNI))


@functools.cache
def bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 by special instructions (AVX512-BF16 or AMX)."""
    return any(map(_capable, _BFLOAT16))


def tiles() -> bool:
    """Return whether the CPU multiplies bfloat16 in tiles (AMX), which PyTorch's own attention uses."""
    return _capable("amx_bf16")


def _capable(instructions: str) -> bool:
    capabilities: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    return bool(capabilities().get(instructions, False))


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
    return (
        torch.allclose(linear(x, packed), expected)
        and torch.allclose(linear(x, packed, relu=True), expected.relu())
        and torch.allclose(linear(x, packed, dtype=torch.bfloat16).float(), expected, rtol=1e-2)
        and torch.allclose(linear_add_(total, x, packed), expected + 2)
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
