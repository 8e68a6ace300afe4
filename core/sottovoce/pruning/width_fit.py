"""Choice of the hidden units that stay, and the regression that the layer reading them is refitted by."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sottovoce.calibration.blocks import Block
from sottovoce.calibration.held_out import SplitThreads
from sottovoce.pruning.moments import Moments
from sottovoce.pruning.obs import columns_to_keep, damped
from sottovoce.pruning.refit import Regression, RegressionSums
from sottovoce.pruning.slicing import keep_channels_
from sottovoce.pruning.width_inputs import LayerInputs, run_with_hooks
from sottovoce.pruning.width_layer import WidthLayer

if TYPE_CHECKING:
    from collections.abc import Callable


@torch.no_grad()
def choose_units(
    layer: WidthLayer, root: nn.Module, score: str, moments: Moments | None = None, damp: float = 0.01
) -> Tensor:
    """Return the numbers of the units that stay, in rising order ``[keep]``.

    Args:
        layer: The module that holds them.
        root: The model.
        score: ``obs``, ``activation`` or ``magnitude``.
        moments: The units on the samples, for all scores but magnitude.
        damp: Share of the mean second moment that is added to all of them.
    """
    weight = layer.linear(root, layer.width.output).weight.detach()
    if score == "obs" and moments is not None:
        return columns_to_keep(weight, damped(moments.second, damp), layer.keep)
    sizes: Tensor = torch.linalg.vector_norm(weight.float(), dim=0)
    if score == "activation" and moments is not None:
        sizes = sizes * moments.second.diagonal().sqrt().to(sizes)
    else:
        for name in layer.width.inputs:
            sizes = sizes * torch.linalg.vector_norm(layer.linear(root, name).weight.detach().float(), dim=1)
    return sizes.topk(layer.keep).indices.sort().values


@torch.no_grad()
def regressions(block: Block, inputs: LayerInputs, kept: Tensor, split: SplitThreads) -> tuple[Regression, Regression]:
    """Return the regressions of the outputs with all units on those that stay, for the fit and held out.

    A normalization over the units gives other values when it has fewer, so the block runs again where there is one.
    """
    layer = inputs.layer
    weight = layer.linear(block.root, layer.width.output).weight.detach()
    if layer.width.norm is None:
        fitted = Regression.of_columns(inputs.fitted, weight, kept)
        return fitted, Regression.of_columns(inputs.held_out, weight, kept) if inputs.held_out.rows else fitted
    norm = f"{layer.name}.{layer.width.norm}"
    sums = []
    for threads in (split.fitted, split.held_out):
        both = RegressionSums()
        hooks = {norm: _pairing(both, block.root.get_submodule(norm), weight, kept)}
        for _ in run_with_hooks(block, threads, hooks):
            pass
        if block.is_divided:
            both.sum_over_processes()
        sums.append(both.regression())
    return sums[0], sums[1]


def _pairing(sums: RegressionSums, norm: nn.Module, weight: Tensor, kept: Tensor) -> Callable[[Tensor], None]:
    """Return a function that counts what comes out of a normalization of all units, and of those that stay."""
    smaller = copy.deepcopy(norm)
    smaller._forward_pre_hooks.clear()
    keep_channels_(smaller, kept.tolist())

    def add(x: Tensor) -> None:
        # forward, since a hook of the module itself runs this.
        sums.add(smaller(x[..., kept]), norm.forward(x) @ weight.t())

    return add
