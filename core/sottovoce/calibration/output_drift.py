"""Drift of a layer's outputs from those that it had in the model before any change."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.runtime.backends.onednn_float import matmul_transposed
from sottovoce.system import distributed


class OutputDrift:
    """Sums over the inputs of a layer, of what its outputs lack to those of before, times the inputs."""

    def __init__(self, layer: nn.Linear) -> None:
        """Begin with none.

        Args:
            layer: The float layer, whose weight must not change while inputs are added.
        """
        self._layer = layer
        self._sums = torch.zeros(layer.weight.shape, dtype=torch.float64, device=layer.weight.device)
        self.rows = 0

    def add(self, x: Tensor, before: Tensor | None) -> None:
        """Count the inputs of one call.

        Args:
            x: Inputs ``[..., in]``.
            before: Outputs ``[..., out]`` for the same sample in the model before any change. Without any, or where
                their number differs, as with other tokens, the call has no drift.
        """
        x = x.detach().reshape(-1, x.shape[-1]).float()
        out = self._layer.out_features
        if before is None or before.shape[-1] != out or before.numel() != len(x) * out:
            return
        bias = None if self._layer.bias is None else self._layer.bias.float()
        lacking = before.reshape(-1, out).float() - functional.linear(x, self._layer.weight.float(), bias)
        self._sums += matmul_transposed(lacking.t(), x.t())
        self.rows += len(x)

    def sum_over_processes(self) -> None:
        """Complete the sums with those of the other processes; nothing is added after that."""
        self.rows = sum(distributed.gather(self.rows))
        distributed.sum_(self._sums)

    def mean(self, rows: int) -> Tensor:
        """Return the mean over ``rows`` inputs, float32 ``[out, in]``."""
        return (self._sums / max(rows, 1)).float()
