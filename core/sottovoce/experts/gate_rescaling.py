"""Rescaling of experts whose gate values grew because other experts were removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sottovoce.calibration.routing import Routed
from sottovoce.experts.removal import float_projection
from sottovoce.runtime.experts import Experts

_SUMS_TO_ONE = 0.02
"""Largest distance from one of a sum of gate values in bfloat16 that counts as one."""


@torch.no_grad()
def gate_rescale(router: nn.Module, routed: Routed, kept: Sequence[int]) -> Tensor | None:
    """Compute the factors that bring the outputs of the kept experts back to the size they had before pruning.

    A router that does not divide the values of the chosen experts by their sum takes them from a softmax over all
    experts; without the rows of the removed ones, every remaining value grows. A router that divides needs no factors.

    Args:
        router: The router after pruning.
        routed: Tokens with the gate values before.
        kept: The experts that stayed.

    Returns:
        For each of ``kept`` the mean of its old gate value over the new one, on the tokens that were routed to it; for
        one without tokens the mean over all. ``None`` for a router that divides, or without tokens.
    """
    if not len(routed) or normalizes_gates(router, routed):
        return None
    _, weight, index = router(routed.hidden)
    places = torch.full((max(int(routed.index.max()), *kept) + 1,), -1, device=index.device)
    places[list(kept)] = torch.arange(len(kept), device=index.device)
    before = places[routed.index]
    # A token that was routed to an expert that stayed is still routed to it.
    same = (before[:, :, None] == index[:, None, :]) & (before >= 0)[:, :, None]
    rows, old, new = same.nonzero(as_tuple=True)
    if not len(rows):
        return None
    ratio = routed.weight[rows, old].double() / weight[rows, new].double().clamp(min=torch.finfo(torch.float32).tiny)
    expert = before[rows, old]
    total = torch.zeros(len(kept), dtype=torch.float64, device=ratio.device).index_add_(0, expert, ratio)
    count = torch.bincount(expert, minlength=len(kept))
    return torch.where(count > 0, total / count.clamp(min=1), ratio.mean()).cpu()


def normalizes_gates(router: nn.Module, routed: Routed) -> bool:
    """Tell if a router divides the gate values of a token's experts by their sum.

    The router's ``norm_topk_prob`` says so; for a router without this setting, the gate values of ``routed`` do.
    """
    setting = getattr(router, "norm_topk_prob", None)
    if setting is not None:
        return bool(setting)
    sums = routed.weight.double().sum(-1)
    return bool(((sums - 1).abs() < _SUMS_TO_ONE).all())


@torch.no_grad()
def rescale_experts_(experts: Experts, factors: Tensor) -> None:
    """Multiply the output of every expert by a factor ``[experts]``, in its last projection.

    Raises:
        CoverageError: An expert is quantized already.
    """
    for tensors, factor in zip(_output_tensors(experts), factors.tolist(), strict=True):
        for tensor in tensors:
            tensor.mul_(factor)


def copy_output_tensors(experts: Experts) -> list[list[Tensor]]:
    """Return copies of the tensors that :func:`rescale_experts_` changes, expert by expert."""
    return [[tensor.detach().clone() for tensor in tensors] for tensors in _output_tensors(experts)]


@torch.no_grad()
def restore_output_tensors_(experts: Experts, copies: list[list[Tensor]]) -> None:
    """Put the tensors of :func:`copy_output_tensors` back into the experts."""
    for tensors, saved in zip(_output_tensors(experts), copies, strict=True):
        for tensor, copy in zip(tensors, saved, strict=True):
            tensor.copy_(copy)


def _output_tensors(experts: Experts) -> Iterator[list[Tensor]]:
    for expert in experts:
        layer = float_projection(expert, "down_proj")
        yield [tensor for tensor in (layer.weight, layer.bias) if tensor is not None]
