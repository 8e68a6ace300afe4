"""Absorption: a layer's output projection is fitted so that the layers after it can go.

With ``x`` what the projection ``W`` reads, ``h`` the hidden states that leave its layer and ``t`` those that left the
last removed layer, ``W'`` minimizes ``|t - (h - W x) - W' x|^2 + lambda |W' - W|^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sottovoce.pruning.refit import Regression, RegressionSums
from sottovoce.pruning.slicing import set_weight_


class AbsorptionSums:
    """Sums over hidden states, for fitting an output projection to them."""

    def __init__(self, layer: nn.Linear) -> None:
        self._weight = layer.weight.detach().float()
        self._sums = RegressionSums()
        self.rows = 0
        self._power = 0.0
        self._change = 0.0

    @torch.no_grad()
    def add(self, x: Tensor, state: Tensor, target: Tensor) -> None:
        """Count rows.

        Args:
            x: What the projection reads ``[rows, in]``.
            state: Hidden states that leave its layer ``[rows, out]``.
            target: Hidden states that should leave it ``[rows, out]``.
        """
        change = target - state
        self._sums.add(x, change + x @ self._weight.t())
        self.rows += len(x)
        self._power += float(target.double().square().sum())
        self._change += float(change.double().square().sum())

    @property
    def error_before(self) -> float:
        """Squared distance of the hidden states from those that should be, as a share of their power."""
        return self._change / self._power if self._power else 0.0

    def regression(self) -> Regression:
        """Return the means over all rows.

        Raises:
            ValueError: No rows were added.
        """
        return self._sums.regression()


@dataclass(frozen=True)
class Projection:
    """Weights of an output projection, to put in place of others."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, layer: nn.Linear) -> Projection:
        """Return a copy of a layer's weights."""
        return cls(layer.weight.detach().clone(), None if layer.bias is None else layer.bias.detach().clone())

    def fitted(self, regression: Regression, damp: float) -> Projection:
        """Return the weights fitted to a regression; a bias takes the mean."""
        weight, shift = regression.fit(self.weight, damp, self.bias is not None)
        bias = self.bias if self.bias is None or shift is None else self.bias.double() + shift
        return Projection(weight, bias)

    @torch.no_grad()
    def set_(self, layer: nn.Linear) -> None:
        """Give the weights to a layer."""
        set_weight_(layer, self.weight)
        if self.bias is not None:
            layer.bias.copy_(self.bias.to(layer.bias))


def estimated_error(x: Tensor, change: Tensor, target: Tensor, damp: float) -> float:
    """Return the error that absorbing would leave on other rows, from few rows, as a share of the target's power.

    This is the leave-one-out error of ridge regression in its dual form: with the Gram matrix ``K`` of the rows and
    ``A = inv(K + lambda I)``, the residual of a row that is left out is ``(A y)_i / A_ii``.

    Args:
        x: What the projection reads ``[rows, in]``.
        change: What should be added to the hidden states ``[rows, out]``.
        target: Hidden states that should result ``[rows, out]``.
        damp: Share of the mean second moment that is added to all of them.
    """
    power = float(target.double().square().sum())
    if not power:
        return 0.0
    centred, aim = (rows.double() - rows.double().mean(0) for rows in (x, change))
    gram = centred @ centred.t()
    ridge = damp * float(gram.diagonal().sum()) / max(x.shape[1], 1) + 1e-12
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))
    residual = (inverse @ aim) / inverse.diagonal()[:, None]
    return min(float(residual.square().sum()), float(change.double().square().sum())) / power
