"""Quantization parameters of a weight: scales and zero points, how they are computed, and the way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.recipe.scheme import Scheme

_FLOAT8 = torch.float8_e4m3fn
_TINY = 1e-12
_CHUNK = 1 << 18
"""Number of weights that are worked on at a time: their float32 and a few copies of it fit a processor's cache."""
_CLIPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (-0.05, 0.05), (-0.025, 0.025)
"""Shares that :func:`compute_qparams` takes off a range: first of the full one, then around the best so far.

Below a half of the range the clipped weights always cost more, but where there are four values. Trying every fortieth
of it gives errors that are smaller by a thousandth, in twice the time.
"""
_CLIPS_OF_FOUR = (*_CLIPS[0], 0.6, 0.7)
_LEAST_SHARE, _LEAST_SHARE_OF_FOUR = 0.5, 0.25


@dataclass(frozen=True, slots=True, eq=False)
class QuantizationParams:
    """Meaning of quantized values ``[out, in]``: ``(value - zero_point) * scale``, a pair for each group of inputs."""

    scheme: Scheme
    scale: Tensor
    """float32 ``[out, groups]``, rounded to what is stored."""
    zero_point: Tensor | None = None
    """float32 ``[out, groups]`` of whole numbers; ``None`` is zero."""

    def rows(self, part: slice) -> QuantizationParams:
        """Return the parameters of some outputs."""
        zero_point = None if self.zero_point is None else self.zero_point[part].contiguous()
        return QuantizationParams(self.scheme, self.scale[part].contiguous(), zero_point)

    def quantize(self, weight: Tensor) -> Tensor:
        """Round float ``[out, in]`` to the nearest quantized values: s8, or fp8 when the scheme is float."""
        dtype = _FLOAT8 if self.scheme.type == "float" else torch.int8
        if weight.is_meta:
            return torch.empty_like(weight, dtype=dtype)
        chunks = [self.rows(part)._quantize_chunk(weight[part]).to(dtype) for part in row_chunks(weight)]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _quantize_chunk(self, weight: Tensor) -> Tensor:
        scaled = _grouped(weight, self.scale.shape[1]).float() / self.scale[..., None]
        if self.scheme.type == "float":
            # The conversion to fp8 rounds by itself, but turns what is too large into NaN.
            limit = torch.finfo(_FLOAT8).max
            return scaled.clamp_(-limit, limit).view(weight.shape)
        scaled.round_()
        if self.zero_point is not None:
            scaled += self.zero_point[..., None]
        return scaled.clamp_(self.scheme.lowest, self.scheme.highest).view(weight.shape)

    def dequantize(self, qweight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the floats that quantized values ``[out, in]`` stand for, computed in ``dtype``."""
        groups = _grouped(qweight.to(dtype), self.scale.shape[1])
        if self.zero_point is not None:
            groups = groups - self.zero_point[..., None].to(dtype)
        return (groups * self.scale[..., None].to(dtype)).reshape(qweight.shape)


def compute_qparams(weight: Tensor, scheme: Scheme, *, search: bool = False) -> QuantizationParams:
    """Compute parameters that cover the range of every group, or those with the least squared error.

    Args:
        weight: Float ``[out, in]``; a group size divides ``in``.
        scheme: How it is stored.
        search: If true, clipped ranges are tried, and each group keeps the best by the squared error of its weights.
    """
    groups = _grouped(weight, weight.shape[1] // scheme.group_size if scheme.group_size else 1)
    if weight.is_meta:
        return _shapes_only(groups, scheme)
    parts = row_chunks(weight)
    if not search:
        ranges = [_range(groups[part].float(), scheme) for part in parts]
        scales, lows = [scale for scale, _ in ranges], [low for _, low in ranges]
        return _covering(torch.cat(scales), torch.cat(lows), scheme, weight.dtype)
    # Buffers for all chunks: memory that is taken anew for every range costs more than the arithmetic.
    buffer, *work = torch.empty(3, *groups[parts[0]].shape, device=weight.device)
    best = []
    for part in parts:
        chunk = groups[part]
        best.append(_best_clipped(buffer[: len(chunk)].copy_(chunk), scheme, weight.dtype, work))
    return _joined(best)


def _shapes_only(groups: Tensor, scheme: Scheme) -> QuantizationParams:
    """Return parameters without values: arithmetic on meta tensors would import PyTorch's compiler, for a second."""
    scale = torch.empty(groups.shape[:-1], device="meta")
    return QuantizationParams(scheme, scale, None if scheme.symmetric or scheme.type == "float" else scale)


def row_chunks(weight: Tensor) -> list[slice]:
    """Return slices of a few rows of ``[out, in]``, which stay in the processor's cache while they are worked on."""
    if weight.device.type != "cpu":
        return [slice(0, len(weight))]
    rows = max(1, _CHUNK // max(1, weight.shape[1]))
    return [slice(first, min(first + rows, len(weight))) for first in range(0, len(weight), rows)]


def _range(groups: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Return the scale that covers every group, not yet rounded to what is stored, and the least weight of each."""
    # Zero belongs to every range: it has to be exact, for padding and for pruned weights.
    low, high = groups.amin(-1).clamp_(max=0), groups.amax(-1).clamp_(min=0)
    if scheme.type == "float":
        return torch.maximum(-low, high) / torch.finfo(_FLOAT8).max, low
    if scheme.symmetric:
        return torch.maximum(-low, high) / scheme.highest, low
    return (high - low) / (scheme.highest - scheme.lowest), low


def _best_clipped(groups: Tensor, scheme: Scheme, dtype: torch.dtype, work: Sequence[Tensor]) -> QuantizationParams:
    """Try clipped ranges of ``groups``, and return for each group the parameters with the least error."""
    scale, low = _range(groups, scheme)
    share, least = torch.ones_like(low)[None], torch.full_like(low, torch.inf)[None]
    first, least_share = (_CLIPS[0], _LEAST_SHARE) if scheme.bits > 2 else (_CLIPS_OF_FOUR, _LEAST_SHARE_OF_FOUR)
    for clips in (first, *_CLIPS[1:]):
        # Coarse clips of the full range first, then finer ones around the best share of each group.
        tried = (share - torch.tensor(clips, device=low.device)[:, None, None]).clamp_(least_share, 1)
        candidates = _covering(scale * tried, low * tried, scheme, dtype)
        errors = torch.empty_like(tried)
        for number, error in enumerate(errors):
            zero_point = None if candidates.zero_point is None else candidates.zero_point[number]
            error.copy_(_errors(QuantizationParams(scheme, candidates.scale[number], zero_point), groups, work))
        # Of equal errors the first; argmin says the same in five times the time.
        least, best = torch.cat((least, errors)).min(0, keepdim=True)
        share = torch.cat((share, tried)).gather(0, best)
    return _covering(scale * share[0], low * share[0], scheme, dtype)


def _joined(chunks: list[QuantizationParams]) -> QuantizationParams:
    """Join the parameters of chunks of rows."""
    zero_points = [qparams.zero_point for qparams in chunks if qparams.zero_point is not None]
    scale = torch.cat([qparams.scale for qparams in chunks])
    return QuantizationParams(chunks[0].scheme, scale, torch.cat(zero_points) if zero_points else None)


def merge(better: Tensor, first: QuantizationParams, second: QuantizationParams) -> QuantizationParams:
    """Return ``first`` where ``better`` ``[out, groups]`` is true, else ``second``."""
    zero_point = None
    if first.zero_point is not None and second.zero_point is not None:
        zero_point = torch.where(better, first.zero_point, second.zero_point)
    return QuantizationParams(first.scheme, torch.where(better, first.scale, second.scale), zero_point)


def stored_scale(scale: Tensor, scheme: Scheme, dtype: torch.dtype) -> Tensor:
    """Round a float32 scale up to the precision that it is kept in.

    Many scales of small groups are kept as bfloat16, and a half-precision model keeps all its scales as it keeps its
    weights, since other libraries bring them to that dtype when they load.
    """
    kept = scale_dtype(scheme, dtype)
    if kept == torch.float32:
        return scale.float()
    # Up to the next representable number: a smaller scale would clip the largest weight.
    if kept == torch.bfloat16:
        # It is the upper half of a positive float32.
        return ((scale.float().view(torch.int32) + 0xFFFF) & -0x10000).view(torch.float32)
    rounded = scale.to(kept)
    # By the bits of a positive number: `nextafter` of this dtype is not there on GPUs in every PyTorch.
    above = (rounded.view(torch.int16) + 1).view(kept)
    return torch.where(rounded.float() < scale, above, rounded).float()


def scale_dtype(scheme: Scheme, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that the scales of a weight of ``dtype`` are kept in."""
    if dtype in (torch.bfloat16, torch.float16):
        return dtype
    return torch.float32 if scheme.group_size is None else torch.bfloat16


def _covering(scale: Tensor, low: Tensor, scheme: Scheme, dtype: torch.dtype) -> QuantizationParams:
    """Return parameters with a scale, rounded to what is stored, and the zero point that makes ``low`` the lowest."""
    # A group of zeros has no range; any scale does for it.
    scale = stored_scale(torch.where(scale > _TINY, scale, 1.0), scheme, dtype)
    if scheme.symmetric or scheme.type == "float":
        return QuantizationParams(scheme, scale)
    zero_point = (scheme.lowest - low / scale).round_().clamp_(scheme.lowest, scheme.highest)
    return QuantizationParams(scheme, scale, zero_point)


def _errors(qparams: QuantizationParams, groups: Tensor, work: Sequence[Tensor]) -> Tensor:
    """Compute the Euclidean norm of the quantization error of each of ``groups`` ``[out, groups, size]``."""
    if qparams.scheme.type == "float":
        flat = groups.flatten(1)
        error = _grouped(qparams.dequantize(qparams.quantize(flat)), groups.shape[1]) - groups
        return torch.as_tensor(torch.linalg.vector_norm(error, dim=-1))
    # In units of the scale: a product costs half of a quotient, and the error need not be scaled back one by one.
    scaled, rounded = (buffer[: len(groups)] for buffer in work)
    torch.mul(groups, qparams.scale.reciprocal()[..., None], out=scaled)
    if qparams.zero_point is not None:
        scaled.add_(qparams.zero_point[..., None])
    error = torch.round(scaled, out=rounded).clamp_(qparams.scheme.lowest, qparams.scheme.highest).sub_(scaled)
    return torch.as_tensor(torch.linalg.vector_norm(error, dim=-1)) * qparams.scale


def _grouped(weight: Tensor, groups: int) -> Tensor:
    """View ``[out, in]`` as ``[out, groups, size]``."""
    return weight.reshape(weight.shape[0], groups, -1)
