"""The steps that a weight is rounded to: their scales and zero points, and the way there and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.scheme import Scheme

_FLOAT8 = torch.float8_e4m3fn
_TINY = 1e-12
_SEARCHED = 1 << 17
"""Weights that :func:`choose` tries ranges for at a time."""
_CLIPS = tuple(1 - step / 40 for step in range(21))
"""Shares of the full range that :func:`choose` tries; below a half the clipped weights always cost more."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The steps of a weight ``[out, in]``: ``(step - zero_point) * scale``, with one pair for each group of inputs."""

    scheme: Scheme
    scale: Tensor
    """float32 ``[out, groups]``, rounded to what is stored."""
    zero_point: Tensor | None = None
    """float32 ``[out, groups]`` of whole numbers; ``None`` is zero."""

    def column(self, index: int) -> Grid:
        """The grid of one input, ``[out, 1]``."""
        group = index // self.scheme.group_size if self.scheme.group_size else 0
        part = slice(group, group + 1)
        return Grid(self.scheme, self.scale[:, part], None if self.zero_point is None else self.zero_point[:, part])

    def round(self, weight: Tensor) -> Tensor:
        """The nearest steps: float ``[out, in]`` to s8, or to fp8 when the scheme is float."""
        groups = _grouped(weight, self.scale.shape[1]).float()
        steps = groups / self.scale[..., None]
        if self.scheme.type == "float":
            limit = torch.finfo(_FLOAT8).max
            return steps.clamp_(-limit, limit).reshape(weight.shape).to(_FLOAT8)
        steps = steps.round_()
        if self.zero_point is not None:
            steps += self.zero_point[..., None]
        return steps.clamp_(self.scheme.lowest, self.scheme.highest).reshape(weight.shape).to(torch.int8)

    def values(self, steps: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What steps ``[out, in]`` stand for, computed in ``dtype``."""
        groups = _grouped(steps.to(dtype), self.scale.shape[1])
        if self.zero_point is not None:
            groups = groups - self.zero_point[..., None].to(dtype)
        return (groups * self.scale[..., None].to(dtype)).reshape(steps.shape)


def choose(weight: Tensor, scheme: Scheme, *, search: bool = False) -> Grid:
    """The grid that covers the range of every group, or that has the least squared error.

    Args:
        weight: Float ``[out, in]``; a group size divides ``in``.
        scheme: How it is stored.
        search: Whether to try clipped ranges, and to keep each group's best by the squared error of its weights.
    """
    groups = _grouped(weight.float(), weight.shape[1] // scheme.group_size if scheme.group_size else 1)
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    if not search or weight.is_meta:
        return _covering(low, high, scheme, weight.dtype)
    clips = torch.tensor(_CLIPS, device=weight.device)[:, None, None]
    rows = max(1, _SEARCHED // weight.shape[1])
    # One place for all: memory that is taken anew for every range costs more than the arithmetic.
    work = torch.empty_like(groups[:rows])
    found: list[Grid] = []
    # A few rows at a time stay in the processor's cache through all the ranges that are tried.
    for part in (slice(first, first + rows) for first in range(0, len(groups), rows)):
        every = _covering(low[part] * clips, high[part] * clips, scheme, weight.dtype)
        errors = torch.empty_like(every.scale)
        for number, error in enumerate(errors):
            zero_point = None if every.zero_point is None else every.zero_point[number]
            tried = Grid(scheme, every.scale[number], zero_point)
            error.copy_(_errors(tried, groups[part], work[: len(error)]))
        found.append(_least(every, errors))
    return _joined(found)


def _least(every: Grid, errors: Tensor) -> Grid:
    """Of grids ``[ranges, out, groups]`` each group's with the least error."""
    # Of equal errors the first; argmin says the same in five times the time.
    best = errors.min(0, keepdim=True).indices
    zero_point = None if every.zero_point is None else every.zero_point.gather(0, best)[0]
    return Grid(every.scheme, every.scale.gather(0, best)[0], zero_point)


def _joined(grids: list[Grid]) -> Grid:
    """The grids of some rows each, as one."""
    zero_points = [grid.zero_point for grid in grids if grid.zero_point is not None]
    scale = torch.cat([grid.scale for grid in grids])
    return Grid(grids[0].scheme, scale, torch.cat(zero_points) if zero_points else None)


def merge(better: Tensor, one: Grid, other: Grid) -> Grid:
    """``one`` where ``better`` ``[out, groups]`` is true, else ``other``."""
    zero_point = None
    if one.zero_point is not None and other.zero_point is not None:
        zero_point = torch.where(better, one.zero_point, other.zero_point)
    return Grid(one.scheme, torch.where(better, one.scale, other.scale), zero_point)


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
    rounded = scale.to(kept).float()
    return torch.where(
        rounded < scale, torch.nextafter(scale.to(kept), torch.tensor(torch.inf).to(kept)).float(), rounded
    )


def scale_dtype(scheme: Scheme, dtype: torch.dtype) -> torch.dtype:
    """What the scales of a weight of ``dtype`` are kept in."""
    if dtype in (torch.bfloat16, torch.float16):
        return dtype
    return torch.float32 if scheme.group_size is None else torch.bfloat16


def _covering(low: Tensor, high: Tensor, scheme: Scheme, dtype: torch.dtype) -> Grid:
    if scheme.type == "float":
        span = torch.maximum(-low, high) / torch.finfo(_FLOAT8).max
    elif scheme.symmetric:
        span = torch.maximum(-low, high) / scheme.highest
    else:
        span = (high - low) / (scheme.highest - scheme.lowest)
    scale = stored_scale(torch.where(span > _TINY, span, torch.ones_like(span)), scheme, dtype)
    if scheme.symmetric or scheme.type == "float":
        return Grid(scheme, scale)
    zero_point = (scheme.lowest - low / scale).round_().clamp_(scheme.lowest, scheme.highest)
    return Grid(scheme, scale, zero_point)


def _errors(grid: Grid, groups: Tensor, work: Tensor) -> Tensor:
    """The Euclidean norm of what rounding changes in each of ``groups`` ``[out, groups, size]``."""
    if grid.scheme.type == "float":
        flat = groups.flatten(1)
        wrong = _grouped(grid.values(grid.round(flat)), groups.shape[1]) - groups
        return torch.as_tensor(torch.linalg.vector_norm(wrong, dim=-1))
    scale = grid.scale[..., None]
    found = torch.div(groups, scale, out=work).round_()
    if grid.zero_point is None:
        found.clamp_(grid.scheme.lowest, grid.scheme.highest)
    else:
        zero_point = grid.zero_point[..., None]
        found.add_(zero_point).clamp_(grid.scheme.lowest, grid.scheme.highest).sub_(zero_point)
    return torch.as_tensor(torch.linalg.vector_norm(found.mul_(scale).sub_(groups), dim=-1))


def _grouped(weight: Tensor, groups: int) -> Tensor:
    return weight.reshape(weight.shape[0], groups, -1)
