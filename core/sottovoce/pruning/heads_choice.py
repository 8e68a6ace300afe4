"""Choice of the attention heads that stay, by the inputs of the output projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sottovoce.calibration.blocks import Block
from sottovoce.pruning.heads_layer import HeadsLayer
from sottovoce.pruning.moments import Moments
from sottovoce.pruning.obs import damped, groups_to_keep
from sottovoce.pruning.width_inputs import run_with_hooks

if TYPE_CHECKING:
    from sottovoce.calibration.sample_threads import SampleThread


def observe_outputs(block: Block, layers: Sequence[HeadsLayer], threads: Sequence[SampleThread]) -> dict[str, Moments]:
    """Run a block on samples, and return what its attentions give to their output projections, by name."""
    moments = {layer.name: Moments() for layer in layers}
    hooks: dict[str, Callable[[Tensor], None]] = {
        layer.output_name: partial(moments[layer.name].add, layer.output_name) for layer in layers
    }
    for _ in run_with_hooks(block, threads, hooks):
        pass
    if block.is_divided:
        for inputs in moments.values():
            inputs.sum_over_processes()
    return moments


@torch.no_grad()
def choose_groups(
    weight: Tensor, groups: int, keep: int, score: str, moments: Moments | None = None, damp: float = 0.01
) -> list[int]:
    """Return the numbers of the groups of heads that stay, in rising order.

    Args:
        weight: Weight of the output projection ``[out, in]``; its columns are the groups, side by side.
        groups: Number of groups.
        keep: Number of groups that stay.
        score: ``obs``; ``activation``, the power that a group adds to the output; or ``magnitude``, the norm of its
            columns.
        moments: Inputs of the projection on the samples, for all scores but magnitude.
        damp: Share of the mean second moment that is added to all of them.
    """
    if score == "obs" and moments is not None:
        return groups_to_keep(weight, damped(moments.second, damp), groups, keep)
    size = weight.shape[1] // groups
    parts = torch.split(weight.double(), size, dim=1)
    if score == "activation" and moments is not None:
        second = moments.second.to(weight.device)
        squares = [second[start : start + size, start : start + size] for start in range(0, groups * size, size)]
        powers = [((part @ square) * part).sum() for part, square in zip(parts, squares, strict=True)]
    else:
        powers = [part.square().sum() for part in parts]
    return sorted(torch.stack(powers).topk(keep).indices.tolist())
