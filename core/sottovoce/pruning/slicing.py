"""Removal of rows and columns of layers in place; works on tensors without data too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sottovoce.pruning.obs import columns_of


@torch.no_grad()
def keep_rows_(layer: nn.Linear, kept: Sequence[int]) -> None:
    """Remove all outputs of a linear layer but those of the numbers ``kept``."""
    layer.weight = _parameter(layer.weight, layer.weight.detach()[_index(layer.weight, kept)])
    if layer.bias is not None:
        layer.bias = _parameter(layer.bias, layer.bias.detach()[_index(layer.bias, kept)])
    layer.out_features = len(kept)


@torch.no_grad()
def keep_columns_(layer: nn.Linear, kept: Sequence[int]) -> None:
    """Remove all inputs of a linear layer but those of the numbers ``kept``."""
    layer.weight = _parameter(layer.weight, layer.weight.detach()[:, _index(layer.weight, kept)])
    layer.in_features = len(kept)


def keep_groups_of_rows_(layer: nn.Linear, kept: Sequence[int], groups: int) -> None:
    """Remove all outputs of a linear layer but those of some of its groups, which are of one size and adjacent."""
    keep_rows_(layer, columns_of(kept, layer.out_features // groups).tolist())


def keep_groups_of_columns_(layer: nn.Linear, kept: Sequence[int], groups: int) -> None:
    """Remove all inputs of a linear layer but those of some of its groups, which are of one size and adjacent."""
    keep_columns_(layer, columns_of(kept, layer.in_features // groups).tolist())


@torch.no_grad()
def keep_channels_(norm: nn.Module, kept: Sequence[int]) -> None:
    """Remove all channels of a normalization but those of the numbers ``kept``."""
    before = 0
    for name, parameter in list(norm.named_parameters(recurse=False)):
        before = len(parameter)
        setattr(norm, name, _parameter(parameter, parameter.detach()[_index(parameter, kept)]))
    for name in ("normalized_shape", "hidden_size"):
        value = getattr(norm, name, None)
        if value in (before, (before,)):
            setattr(norm, name, (len(kept),) if isinstance(value, tuple) else len(kept))


@torch.no_grad()
def set_weight_(layer: nn.Linear, weight: Tensor, shift: Tensor | None = None) -> None:
    """Give a linear layer a weight ``[out, in]``, and add ``shift`` ``[out]`` to its bias."""
    layer.weight.copy_(weight.to(layer.weight))
    if shift is not None and layer.bias is not None:
        layer.bias.add_(shift.to(layer.bias))


def _index(tensor: Tensor, kept: Sequence[int]) -> Tensor:
    return torch.tensor(list(kept), device=tensor.device, dtype=torch.long)


def _parameter(before: Tensor, tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.contiguous(), requires_grad=before.requires_grad)
