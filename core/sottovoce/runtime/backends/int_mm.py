"""int8 products on GPUs by ``torch._int_mm``: the only module that calls it.

PyTorch does not document this function; on a GPU it is cuBLASLt's s8 product with sums in int32. It takes more than 16
rows, and sizes of the inputs and the outputs that are multiples of 8. It works on the CPU as well, where its tests
(``test_int_mm.py``) hold every function here against a plain computation and against oneDNN's.

Nothing here waits for the device, so values that are not finite cannot be looked for. They make the scale of their row
a NaN instead, and with it what the row gives.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-30
_FEWEST_ROWS = 32
_MULTIPLE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """An s8 weight with the other operands of its products, all on one device."""

    values: Tensor
    """s8 ``[out, in]``."""
    scale: Tensor
    """float32 ``[out]``."""
    sums: Tensor | None
    """int32 ``[out]``, over the inputs; ``None`` when inputs have their zero in the middle."""
    bias: Tensor | None
    """float32 ``[out]``."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedActivations:
    """A quantized matrix: ``(values - zero_point) * scale``."""

    values: Tensor
    """s8 ``[rows, in]``."""
    scale: Tensor
    """float32 ``[rows, 1]``; NaN or infinite for a row with a value that is not finite."""
    zero_point: Tensor | None
    """int32 ``[1]``, -128 to 127; ``None`` is zero."""


def prepare(weight: Tensor, scale: Tensor, bias: Tensor | None = None, *, has_zero_point: bool = False) -> Weight:
    """Gather the operands that :func:`linear` takes with a weight; the integers are not copied.

    Args:
        weight: s8 ``[out, in]``.
        scale: One float an output channel, ``[out]`` or ``[out, 1]``.
        bias: Float ``[out]``.
        has_zero_point: If true, the inputs will have one.
    """
    return Weight(
        values=weight.detach().contiguous(),
        scale=scale.detach().flatten().float(),
        sums=weight.detach().sum(1, dtype=torch.int32) if has_zero_point else None,
        bias=None if bias is None else bias.detach().float(),
    )


def quantize_rows(x: Tensor) -> QuantizedActivations:
    """Quantize every row ``[..., in]`` dynamically, with zero in the middle; as :func:`onednn.quantize_rows`."""
    x = x.reshape(-1, x.shape[-1])
    low, high = torch.aminmax(x, dim=-1, keepdim=True)
    scale = (torch.maximum(-low, high).float() / 127).to(x.dtype).float().clamp_(min=_TINY)
    return QuantizedActivations(_to_int8(x, scale.reciprocal(), None), scale, None)


def quantize(x: Tensor) -> QuantizedActivations:
    """Quantize ``[..., in]`` by the range of its finite rows and zero; as :func:`onednn.quantize`."""
    x = x.reshape(-1, x.shape[-1])
    lows, highs = (end.float() for end in torch.aminmax(x, dim=-1, keepdim=True))
    marks = _marks(lows, highs)
    # In float64, as the ends of the range are on the CPU: a zero point that is rounded otherwise moves every value.
    low = torch.where(marks == 0, lows, 0.0).amin().clamp_(max=0).double()
    high = torch.where(marks == 0, highs, 0.0).amax().clamp_(min=0).double()
    scale = ((high - low) / 255).clamp_(min=_TINY)
    zero_point = (-low / scale).round_().clamp_(0, 255).sub_(128).to(torch.int32).view(1)
    scale = scale.float()
    return QuantizedActivations(_to_int8(x, scale.reciprocal(), zero_point), scale + marks, zero_point)


def quantize_by(x: Tensor, scale: Tensor, zero_point: Tensor) -> QuantizedActivations:
    """Quantize by a range that is known beforehand; what lies outside is clipped.

    Args:
        x: Float ``[..., in]``.
        scale: float32 ``[1]``.
        zero_point: s8 ``[1]``, the quantized value that stands for zero.
    """
    x, zero_point = x.reshape(-1, x.shape[-1]), zero_point.to(torch.int32)
    marks = _marks(*torch.aminmax(x, dim=-1, keepdim=True)).float()
    return QuantizedActivations(_to_int8(x, scale.reciprocal(), zero_point), scale + marks, zero_point)


def linear(x: QuantizedActivations, weight: Weight) -> Tensor:
    """Compute ``x @ weight.T + bias``: float32 ``[rows, out]``."""
    rows = len(x.values)
    values = functional.pad(x.values, (0, 0, 0, _FEWEST_ROWS - rows)) if rows < _FEWEST_ROWS else x.values
    total: Tensor = torch._int_mm(values, weight.values.t())[:rows]
    if x.zero_point is not None:
        assert weight.sums is not None
        # In integers, where the difference is exact.
        total = total - x.zero_point * weight.sums
    scaled = total * x.scale
    return scaled.mul_(weight.scale) if weight.bias is None else torch.addcmul(weight.bias, scaled, weight.scale)


def takes(weight: Tensor) -> bool:
    """Return whether the kernel multiplies by a weight ``[out, in]`` of this size."""
    return all(size and not size % _MULTIPLE for size in weight.shape)


@functools.cache
def supported(device: torch.device) -> bool:
    """Return whether the products are there and exact on a device; tried once for each device."""
    try:
        # Few rows, which are filled up, and a number that no tile of the kernel has.
        return all(_exact(rows, device) for rows in (1, 37))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def _exact(rows: int, device: torch.device) -> bool:
    """Compare a product of extreme values with the same in integers."""
    with torch.inference_mode():
        weight = torch.arange(24 * 72).remainder(255).sub(127).view(24, 72)
        x = torch.arange(rows * 72).remainder(256).sub(128).view(rows, 72)
        weight[0], x[0] = 127, -128
        expected = (x + 3) @ weight.t()
        ones = torch.ones(rows, 1, device=device)
        quantized = QuantizedActivations(
            x.to(device, torch.int8), ones, torch.full((1,), -3, dtype=torch.int32, device=device)
        )
        prepared = prepare(weight.to(device, torch.int8), torch.ones(24, device=device), has_zero_point=True)
        return torch.equal(linear(quantized, prepared).cpu(), expected.float())


def _to_int8(x: Tensor, factors: Tensor, zero_point: Tensor | None) -> Tensor:
    # In place where the conversion made a copy.
    scaled = x * factors if x.dtype == torch.float32 else x.float().mul_(factors)
    scaled.round_()
    if zero_point is not None:
        scaled.add_(zero_point)
    return scaled.clamp_(-128, 127).to(torch.int8)


def _marks(lows: Tensor, highs: Tensor) -> Tensor:
    """Return zero for every row with finite ends of its range, NaN for the others."""
    return lows * 0 + highs * 0
