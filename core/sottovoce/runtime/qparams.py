"""The steps that a weight is rounded to: their scales and zero points, and the way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.recipe.scheme import Scheme

_FLOAT8 = torch.float8_e4m3fn
_TINY = 1e-12
_IN_CACHE = 1 << 18
"""Weights that are worked on at a time."""
_CLIPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (-0.05, 0.05), (-0.025, 0.025)
"""Shares that :func:`choose` takes off a range: the first of the full one, the others of the best so far.

Below a half of the range the clipped weights always cost more. Trying every fortieth of it gives errors that
are smaller by a thousandth, in twice the time.
"""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizationParams:
    """The steps of a weight ``[out, in]``: ``(step - zero_point) * scale``, with one pair for each group of inputs."""

    scheme: Scheme
    scale: Tensor
    """float32 ``[out, groups]``, rounded to what is stored."""
    zero_point: Tensor | None = None
    """float32 ``[out, groups]`` of whole numbers; ``None`` is zero."""

    def rows(self, part: slice) -> QuantizationParams:
        """The qparams of some outputs."""
        zero_point = None if self.zero_point is None else self.zero_point[part].contiguous()
        return QuantizationParams(self.scheme, self.scale[part].contiguous(), zero_point)

    def round(self, weight: Tensor) -> Tensor:
        """The nearest steps: float ``[out, in]`` to s8, or to fp8 when the scheme is float."""
        dtype = _FLOAT8 if self.scheme.type == "float" else torch.int8
        made = [self.rows(part)._round(weight[part]).to(dtype) for part in in_cache(weight)]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _round(self, weight: Tensor) -> Tensor:
        steps = _grouped(weight, self.scale.shape[1]).float() / self.scale[..., None]
        if self.scheme.type == "float":
            limit = torch.finfo(_FLOAT8).max
            return steps.clamp_(-limit, limit).view(weight.shape)
        steps.round_()
        if self.zero_point is not None:
            steps += self.zero_point[..., None]
        return steps.clamp_(self.scheme.lowest, self.scheme.highest).view(weight.shape)

    def values(self, steps: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What steps ``[out, in]`` stand for, computed in ``dtype``."""
        groups = _grouped(steps.to(dtype), self.scale.shape[1])
        if self.zero_point is not None:
            groups = groups - self.zero_point[..., None].to(dtype)
        return (groups * self.scale[..., None].to(dtype)).reshape(steps.shape)


def compute_qparams(weight: Tensor, scheme: Scheme, *, search: bool = False) -> QuantizationParams:
    """The qparams that covers the range of every group, or that has the least squared error.

    Args:
        weight: Float ``[out, in]``; a group size divides ``in``.
        scheme: How it is stored.
        search: Whether to try clipped ranges, and to keep each group's best by the squared error of its weights.
    """
    groups = _grouped(weight, weight.shape[1] // scheme.group_size if scheme.group_size else 1)
    parts = in_cache(weight)
    if not search or weight.is_meta:
        ranges = [_range(groups[part].float(), scheme) for part in parts]
        steps, lows = [step for step, _ in ranges], [low for _, low in ranges]
        return _covering(torch.cat(steps), torch.cat(lows), scheme, weight.dtype)
    # One place for all: memory that is taken anew for every range costs more than the arithmetic.
    room, *work = torch.empty(3, *groups[parts[0]].shape, device=weight.device)
    found = []
    for part in parts:
        some = groups[part]
        found.append(_searched(room[: len(some)].copy_(some), scheme, weight.dtype, work))
    return _joined(found)


def in_cache(weight: Tensor) -> list[slice]:
    """A few rows ``[out, in]`` at a time: they stay in the processor's cache through all that is done with them."""
    if weight.is_meta or weight.device.type != "cpu":
        return [slice(0, len(weight))]
    rows = max(1, _IN_CACHE // max(1, weight.shape[1]))
    return [slice(first, min(first + rows, len(weight))) for first in range(0, len(weight), rows)]


def _range(groups: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """The size of a step that covers every group, and the least weight of each."""
    low, high = groups.amin(-1).clamp_(max=0), groups.amax(-1).clamp_(min=0)
    if scheme.type == "float":
        return torch.maximum(-low, high) / torch.finfo(_FLOAT8).max, low
    if scheme.symmetric:
        return torch.maximum(-low, high) / scheme.highest, low
    return (high - low) / (scheme.highest - scheme.lowest), low


def _searched(groups: Tensor, scheme: Scheme, dtype: torch.dtype, work: Sequence[Tensor]) -> QuantizationParams:
    """Of the ranges that are tried each group's with the least error."""
    step, low = _range(groups, scheme)
    share, least = torch.ones_like(low)[None], torch.full_like(low, torch.inf)[None]
    for clips in _CLIPS:
        tried = (share - torch.tensor(clips, device=low.device)[:, None, None]).clamp_(0.5, 1)
        every = _covering(step * tried, low * tried, scheme, dtype)
        errors = torch.empty_like(tried)
        for number, error in enumerate(errors):
            zero_point = None if every.zero_point is None else every.zero_point[number]
            error.copy_(_errors(QuantizationParams(scheme, every.scale[number], zero_point), groups, work))
        # Of equal errors the first; argmin says the same in five times the time.
        least, best = torch.cat((least, errors)).min(0, keepdim=True)
        share = torch.cat((share, tried)).gather(0, best)
    return _covering(step * share[0], low * share[0], scheme, dtype)


def _joined(qparams_list: list[QuantizationParams]) -> QuantizationParams:
    """The qparams_list of some rows each, as one."""
    zero_points = [qparams.zero_point for qparams in qparams_list if qparams.zero_point is not None]
    scale = torch.cat([qparams.scale for qparams in qparams_list])
    return QuantizationParams(qparams_list[0].scheme, scale, torch.cat(zero_points) if zero_points else None)


def merge(better: Tensor, one: QuantizationParams, other: QuantizationParams) -> QuantizationParams:
    """``one`` where ``better`` ``[out, groups]`` is true, else ``other``."""
    zero_point = None
    if one.zero_point is not None and other.zero_point is not None:
        zero_point = torch.where(better, one.zero_point, other.zero_point)
    return QuantizationParams(one.scheme, torch.where(better, one.scale, other.scale), zero_point)


def stored_scale(scale: Tensor, scheme: Scheme, dtype: torch.dtype) -> Tensor:
    """A float32 scale rounded to the precision that it is kept in.

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
    """What the scales of a weight of ``dtype`` are kept in."""
    if dtype in (torch.bfloat16, torch.float16):
        return dtype
    return torch.float32 if scheme.group_size is None else torch.bfloat16


def _covering(step: Tensor, low: Tensor, scheme: Scheme, dtype: torch.dtype) -> QuantizationParams:
    """The qparams with steps of a size, rounded to what is stored; ``low`` is a step where it has a zero point."""
    scale = stored_scale(torch.where(step > _TINY, step, 1.0), scheme, dtype)
    if scheme.symmetric or scheme.type == "float":
        return QuantizationParams(scheme, scale)
    zero_point = (scheme.lowest - low / scale).round_().clamp_(scheme.lowest, scheme.highest)
    return QuantizationParams(scheme, scale, zero_point)


def _errors(qparams: QuantizationParams, groups: Tensor, work: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of what rounding changes in each of ``groups`` ``[out, groups, size]``."""
    if qparams.scheme.type == "float":
        flat = groups.flatten(1)
        wrong = _grouped(qparams.values(qparams.round(flat)), groups.shape[1]) - groups
        return torch.as_tensor(torch.linalg.vector_norm(wrong, dim=-1))
    # Counted in steps: a product costs half of a quotient, and the error need not be brought back one by one.
    exact, found = (each[: len(groups)] for each in work)
    torch.mul(groups, qparams.scale.reciprocal()[..., None], out=exact)
    if qparams.zero_point is not None:
        exact.add_(qparams.zero_point[..., None])
    torch.round(exact, out=found).clamp_(qparams.scheme.lowest, qparams.scheme.highest).sub_(exact)
    return torch.as_tensor(torch.linalg.vector_norm(found, dim=-1)) * qparams.scale


def _grouped(weight: Tensor, groups: int) -> Tensor:
    return weight.reshape(weight.shape[0], groups, -1)
