"""Taking experts out of a layer, and what that does to the layer's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.calibration.routing import Routed
from sottovoce.errors import CoverageError
from sottovoce.runtime.experts import Experts

_COUNTS = ("num_experts", "n_routed_experts", "out_features")
"""Attributes that hold the number of experts, beside the experts or on a router."""
_TOKENS = 4096
"""Tokens that outputs are compared on at a time."""
_SUMS_TO_ONE = 0.02
"""How far a sum of gate values in bfloat16 may be from one."""


@dataclass(frozen=True)
class Damage:
    """What pruning did to the output of a layer's experts, shared experts not counted."""

    error: float
    """Squared error, as a share of the power of the output before."""
    norm_before: float
    """Mean Euclidean norm of a token's output."""
    norm_after: float


@torch.no_grad()
def keep_experts_(experts: Experts, router: nn.Module, kept: Sequence[int]) -> None:
    """Take all experts but ``kept`` out of a layer, in place, and their rows out of the router.

    What is left computes what the whole computed with the logits of the other experts at minus infinity. Works without
    data (on meta tensors) as well.

    Args:
        experts: The experts of the layer.
        router: Has ``weight`` ``[experts, width]``; its other tensors with a row for each expert lose the same rows.
        kept: Which stay, in rising order.

    Raises:
        CoverageError: The router has another number of rows, fewer stay than it sends a token to, or it chooses among
            groups of experts.
    """
    count = len(experts)
    _check(count, router, kept)
    wanted = set(kept)
    for number in reversed(range(count)):
        if number not in wanted:
            del experts[number]
    for name, parameter in list(router.named_parameters(recurse=False)):
        if parameter.dim() and len(parameter) == count:
            rows = _rows(parameter, kept)
            setattr(router, name, nn.Parameter(rows, requires_grad=parameter.requires_grad))
    for name, buffer in list(router.named_buffers(recurse=False)):
        if buffer.dim() and len(buffer) == count:
            setattr(router, name, _rows(buffer, kept))
    for module in (experts, router):
        recount_(module, count, len(kept))


def recount_(module: nn.Module, before: int, after: int) -> None:
    """Tell a module that counted ``before`` experts that there are ``after``."""
    for name in _COUNTS:
        if vars(module).get(name) == before:
            setattr(module, name, after)


@torch.no_grad()
def gate_growth(router: nn.Module, routed: Routed, kept: Sequence[int]) -> Tensor | None:
    """What the gate values of the experts that stayed are divided by in the mean, now that the others are gone.

    A router that does not divide the values of the chosen experts by their sum takes them from a softmax over all
    experts; without the rows of some, every value that is left grows. One that divides has nothing to make up for.

    Args:
        router: The router, after the surgery.
        routed: Tokens with the gate values before.
        kept: The experts that stayed.

    Returns:
        For each of ``kept`` the mean of its old gate value over the new one, on the tokens that were routed to it; for
        one without tokens the mean over all. ``None`` for a router that divides, or without tokens.
    """
    if not len(routed) or divides_by_sum(router, routed):
        return None
    _, weight, index = router(routed.hidden)
    places = torch.full((max(int(routed.index.max()), *kept) + 1,), -1, device=index.device)
    places[list(kept)] = torch.arange(len(kept), device=index.device)
    before = places[routed.index]
    # An expert that a token was routed to and that stayed is one that the token is routed to still.
    same = (before[:, :, None] == index[:, None, :]) & (before >= 0)[:, :, None]
    rows, old, new = same.nonzero(as_tuple=True)
    if not len(rows):
        return None
    ratio = routed.weight[rows, old].double() / weight[rows, new].double().clamp(min=torch.finfo(torch.float32).tiny)
    expert = before[rows, old]
    total = torch.zeros(len(kept), dtype=torch.float64, device=ratio.device).index_add_(0, expert, ratio)
    count = torch.bincount(expert, minlength=len(kept))
    return torch.where(count > 0, total / count.clamp(min=1), ratio.mean()).cpu()


def divides_by_sum(router: nn.Module, routed: Routed) -> bool:
    """Whether a router divides the gate values of a token's experts by their sum; some that do have no such setting."""
    stated = getattr(router, "norm_topk_prob", None)
    if stated is not None:
        return bool(stated)
    sums = routed.weight.double().sum(-1)
    return bool(((sums - 1).abs() < _SUMS_TO_ONE).all())


@torch.no_grad()
def rescale_experts_(experts: Experts, factors: Tensor) -> None:
    """Multiply the output of every expert by a factor ``[experts]``, in its last projection.

    Raises:
        CoverageError: An expert is quantized already.
    """
    for expert, factor in zip(experts, factors.tolist(), strict=True):
        layer = linear(expert, "down_proj")
        for tensor in (layer.weight, layer.bias):
            if tensor is not None:
                tensor.mul_(factor)


@torch.no_grad()
def output(experts: Experts, router: nn.Module, hidden: Tensor) -> Tensor:
    """What the experts of a layer give for the tokens ``hidden`` ``[tokens, width]``, the same size."""
    _, weight, index = router(hidden)
    made: Tensor = experts(hidden, index, weight)
    return made


def damage(before: Tensor, after: Tensor) -> Damage:
    """Compare what a layer's experts gave with what they give, both ``[tokens, width]``."""
    power = error = norm_before = norm_after = 0.0
    for start in range(0, len(before), _TOKENS):
        old, new = (tensor[start : start + _TOKENS].double() for tensor in (before, after))
        power += float(old.square().sum())
        error += float((new - old).square().sum())
        norm_before += float(torch.linalg.vector_norm(old, dim=-1).sum())
        norm_after += float(torch.linalg.vector_norm(new, dim=-1).sum())
    tokens = max(len(before), 1)
    return Damage(error / power if power > 0 else 0.0, norm_before / tokens, norm_after / tokens)


def linear(expert: nn.Module, name: str) -> nn.Linear:
    """A projection of an expert, whose weight can be changed.

    Raises:
        CoverageError: It is quantized already.
    """
    layer = getattr(expert, name)
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
        raise CoverageError(
            f"the {name} of an expert is a {type(layer).__name__}, no float linear layer; "
            "prune experts before quantizing"
        )
    return layer


def _check(count: int, router: nn.Module, kept: Sequence[int]) -> None:
    weight: Any = router.weight
    if len(weight) != count:
        raise CoverageError(f"the router has {len(weight)} rows and the layer {count} experts; is its layout right?")
    if list(kept) != sorted(set(kept)) or not kept or kept[0] < 0 or kept[-1] >= count:
        raise CoverageError(f"the experts to keep must be some of 0 to {count - 1} in rising order, not {list(kept)}")
    top_k = getattr(router, "top_k", 1)
    if len(kept) < top_k:
        raise CoverageError(f"{len(kept)} experts are to stay, and a token is routed to {top_k}; keep more")
    if (groups := getattr(router, "n_group", None) or 1) > 1:
        raise CoverageError(f"the router chooses among {groups} groups of experts; pruning them is not supported yet")


def _rows(tensor: Tensor, kept: Sequence[int]) -> Tensor:
    return tensor.detach()[torch.tensor(list(kept), device=tensor.device)]
