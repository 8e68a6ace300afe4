"""Removal of experts from a layer and of their rows from its router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sottovoce.errors import CoverageError
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Experts

_COUNTS = ("num_experts", "n_routed_experts", "out_features")
"""Attributes that hold the number of experts, on the experts' parent or on a router."""


@torch.no_grad()
def prune_experts_in_layer_(experts: Experts, router: nn.Module, kept: Sequence[int]) -> None:
    """Remove all experts but ``kept`` from a layer, in place, and their rows from the router.

    The smaller layer computes what the whole one computes with the logits of the removed experts at minus infinity.
    Works without data (on meta tensors) as well.

    Args:
        experts: The experts of the layer.
        router: Has ``weight`` ``[experts, width]``; its other tensors with a row for each expert lose the same rows.
        kept: Numbers of the experts that stay, in rising order.

    Raises:
        CoverageError: The router has another number of rows, fewer experts stay than it sends a token to, or it chooses
            among groups of experts.
    """
    count = len(experts)
    _check(count, router, kept)
    for number in reversed(range(count)):
        if number not in set(kept):
            del experts[number]
    for name, parameter in list(router.named_parameters(recurse=False)):
        if parameter.dim() and len(parameter) == count:
            rows = _rows(parameter, kept)
            setattr(router, name, nn.Parameter(rows, requires_grad=parameter.requires_grad))
    for name, buffer in list(router.named_buffers(recurse=False)):
        if buffer.dim() and len(buffer) == count:
            setattr(router, name, _rows(buffer, kept))
    for module in (experts, router):
        update_expert_count_(module, count, len(kept))


def update_expert_count_(module: nn.Module, before: int, after: int) -> None:
    """Set every attribute of a module that holds the number of experts from ``before`` to ``after``."""
    for name in _COUNTS:
        if vars(module).get(name) == before:
            setattr(module, name, after)


def float_projection(expert: nn.Module, name: str) -> nn.Linear:
    """Return a projection of an expert whose weight can be changed.

    Raises:
        CoverageError: It is quantized already.
    """
    layer = getattr(expert, name)
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
        raise CoverageError(
            f"the {name} of an expert is of the class {type(layer).__name__}, not a float linear layer; "
            "prune experts before quantizing"
        )
    return layer


def _check(count: int, router: nn.Module, kept: Sequence[int]) -> None:
    weight: Any = router.weight
    if len(weight) != count:
        raise CoverageError(
            f"the router has {counted(len(weight), 'row')} and the layer "
            f"{counted(count, 'expert')}; is its layout right?"
        )
    if list(kept) != sorted(set(kept)) or not kept or kept[0] < 0 or kept[-1] >= count:
        raise CoverageError(
            f"the experts to keep must be numbers from 0 to {count - 1} in rising order, not {list(kept)}"
        )
    top_k = getattr(router, "top_k", 1)
    if len(kept) < top_k:
        raise CoverageError(f"{counted(len(kept), 'expert')} would stay, and a token is routed to {top_k}; keep more")
    if (groups := getattr(router, "n_group", None) or 1) > 1:
        raise CoverageError(
            f"the router chooses among {counted(groups, 'group')} of experts; pruning them is not supported yet"
        )


def _rows(tensor: Tensor, kept: Sequence[int]) -> Tensor:
    return tensor.detach()[torch.tensor(list(kept), device=tensor.device)]
