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
from sottovoce.pruning.width_inputs import LayerInputs, drift_of, new_drift, run_with_hooks
from sottovoce.pruning.width_layer import WidthLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sottovoce.calibration.sample_threads import SampleThread


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
    if layer.width.norm is not None:
        first, second = (_behind_norm(block, layer, kept, threads) for threads in (split.fitted, split.held_out))
        return first, second
    weight = layer.linear(block.root, layer.width.output).weight.detach()
    fitted = Regression.of_columns(inputs.fitted, weight, kept).with_drift(inputs.fitted_drift, kept)
    if not inputs.held_out.rows:
        return fitted, fitted
    return fitted, Regression.of_columns(inputs.held_out, weight, kept).with_drift(inputs.held_out_drift, kept)


def _behind_norm(block: Block, layer: WidthLayer, kept: Tensor, threads: Sequence[SampleThread]) -> Regression:
    """Return the regression on what comes out of a normalization of the units that stay."""
    weight = layer.linear(block.root, layer.width.output).weight.detach()
    norm = block.root.get_submodule(f"{layer.name}.{layer.width.norm}")
    smaller = copy.deepcopy(norm)
    smaller._forward_pre_hooks.clear()
    keep_channels_(smaller, kept.tolist())
    sums, drift = RegressionSums(), new_drift(layer)
    inputs: list[tuple[Tensor, Tensor]] = []

    def add(x: Tensor) -> None:
        # forward, since a hook of the module itself runs this.
        of_all, of_kept = norm.forward(x), smaller(x[..., kept])
        sums.add(of_kept, of_all @ weight.t())
        inputs.append((of_all.reshape(-1, of_all.shape[-1]).float(), of_kept.reshape(-1, of_kept.shape[-1]).float()))

    for thread, output in run_with_hooks(block, threads, {f"{layer.name}.{layer.width.norm}": add}):
        for of_all, of_kept in inputs:
            lacking = drift_of(block, layer, thread.sample.key, of_all, output)
            if lacking is not None:
                drift.add(lacking, of_kept)
        inputs.clear()
    if block.is_divided:
        sums.sum_over_processes()
        drift.sum_over_processes()
    return sums.regression().with_drift(drift)
