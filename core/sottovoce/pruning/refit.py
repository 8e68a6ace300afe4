"""Least squares between the inputs that a linear layer still has, and the outputs that it had with all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sottovoce.pruning.moments import Moments
from sottovoce.pruning.obs import damped
from sottovoce.system import distributed


@dataclass(frozen=True)
class Regression:
    """Means over all rows of inputs ``x`` and the outputs ``y`` that a layer should give for them, in float64."""

    rows: int
    moments: Tensor
    """Mean of ``x x^T`` ``[in, in]``."""
    cross: Tensor
    """Mean of ``y x^T`` ``[out, in]``; ``y`` is without the layer's bias."""
    power: float
    """Mean of ``|y|^2``."""
    mean: Tensor
    """Mean of ``x`` ``[in]``."""
    target: Tensor
    """Mean of ``y`` ``[out]``."""
    drift: Tensor | None = None
    """Mean of ``d x^T`` ``[out, in]``, ``d`` being what ``y`` lacks of the unchanged model's; ``None`` if not known."""
    drift_mean: Tensor | None = None
    """Mean of ``d`` ``[out]``."""
    drift_damp: float | None = None
    """Damping of what makes up for the drift; ``None`` for that of the fit."""

    @classmethod
    def of_columns(cls, inputs: Moments, weight: Tensor, kept: Tensor) -> Regression:
        """Return the regression of a layer's outputs on some of its inputs, which stay as they are.

        Args:
            inputs: Moments of all inputs.
            weight: The layer's weight ``[out, in]``.
            kept: Numbers of the inputs that stay ``[kept]``.
        """
        wide, moments, mean = weight.double(), inputs.second, inputs.mean
        products = wide @ moments
        return cls(
            rows=inputs.rows,
            moments=moments[kept][:, kept],
            cross=products[:, kept],
            power=float((products * wide).sum()),
            mean=mean[kept],
            target=wide @ mean,
        )

    def with_drift(self, drift: Drift, kept: Tensor | None = None) -> Regression:
        """Return the regression with the drift of its outputs.

        Args:
            drift: Sums over the same rows.
            kept: Numbers of the inputs that stay, if the drift was counted against all of them.
        """
        if not drift.rows:
            return self
        cross = drift.cross if kept is None else drift.cross[:, kept]
        return replace(self, drift=cross / drift.rows, drift_mean=drift.total / drift.rows, drift_damp=drift.damp)

    def merged(self, other: Regression) -> Regression:
        """Return the regression over the rows of both."""
        share = self.rows / max(self.rows + other.rows, 1)

        def mean(first: Tensor, second: Tensor) -> Tensor:
            return first * share + second * (1 - share)

        def mean_if_known(first: Tensor | None, second: Tensor | None) -> Tensor | None:
            return None if first is None or second is None else mean(first, second)

        return Regression(
            rows=self.rows + other.rows,
            moments=mean(self.moments, other.moments),
            cross=mean(self.cross, other.cross),
            power=self.power * share + other.power * (1 - share),
            mean=mean(self.mean, other.mean),
            target=mean(self.target, other.target),
            drift=mean_if_known(self.drift, other.drift),
            drift_mean=mean_if_known(self.drift_mean, other.drift_mean),
            drift_damp=self.drift_damp,
        )

    def fit(self, weight: Tensor, damp: float, has_bias: bool) -> tuple[Tensor, Tensor | None]:
        """Fit a weight by ridge regression that is drawn to the given weight, not to zero.

        Args:
            weight: ``[out, in]``.
            damp: Share of the mean second moment that is added to all of them.
            has_bias: If true, means are taken out and left to the bias.

        Returns:
            The fitted weight ``[out, in]``, and what to add to the bias ``[out]``.
        """
        wide, moments = weight.double(), self._centred(self.moments, self.mean, has_bias)
        rest = self._centred(self.cross, self.target, has_bias) - wide @ moments
        fitted = wide + torch.linalg.solve(damped(moments, damp), rest, left=False)
        return fitted, self.target - fitted @ self.mean if has_bias else None

    def fit_with_drift(self, weight: Tensor, damp: float, has_bias: bool) -> tuple[Tensor, Tensor | None]:
        """Fit a weight as :meth:`fit` does, and make up for the drift of the outputs where it is known."""
        fitted, shift = self.fit(weight, damp, has_bias)
        if self.drift is None or self.drift_mean is None:
            return fitted, shift
        moments = damped(self._centred(self.moments, self.mean, has_bias), self.drift_damp or damp)
        more = torch.linalg.solve(moments, self._centred(self.drift, self.drift_mean, has_bias), left=False)
        return fitted + more, None if shift is None else shift + self.drift_mean - more @ self.mean

    def _centred(self, products: Tensor, mean: Tensor, has_bias: bool) -> Tensor:
        """Return mean products with the inputs, about the means where a bias takes these."""
        return products - torch.outer(mean, self.mean) if has_bias else products

    def error(self, weight: Tensor, shift: Tensor | None = None) -> float:
        """Return the mean squared error of a weight, with ``shift`` added to the bias, as a share of the power."""
        if self.power <= 0:
            return 0.0
        wide = weight.double()
        error = self.power - 2 * float((wide * self.cross).sum()) + float(((wide @ self.moments) * wide).sum())
        if shift is not None:
            error += float(shift @ (shift + 2 * (wide @ self.mean - self.target)))
        return max(error, 0.0) / self.power


class Drift:
    """Sums over what outputs lack of those of the unchanged model, against the inputs of a layer.

    They are the layer's own outputs, or the hidden states that these are added to. A fit that makes up for them stops
    errors from adding up from layer to layer, as in GPTAQ (arXiv 2504.02692).
    """

    def __init__(self, damp: float | None = None) -> None:
        """Begin without rows.

        Args:
            damp: Damping of what makes up for the drift; ``None`` for that of the fit.
        """
        self.damp = damp
        self.rows = 0
        self._cross: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, drift: Tensor, x: Tensor) -> None:
        """Count rows of a drift ``[rows, out]`` and of the layer's inputs ``[rows, in]``."""
        cross, total = (drift.t() @ x).double(), drift.sum(0, dtype=torch.float64)
        self._cross = cross if self._cross is None else self._cross + cross
        self._total = total if self._total is None else self._total + total
        self.rows += len(x)

    def sum_over_processes(self) -> None:
        """Complete the sums with those of the other processes."""
        self.rows = sum(distributed.gather(self.rows))
        self._cross, self._total = distributed.summed(self._cross), distributed.summed(self._total)

    @property
    def cross(self) -> Tensor:
        """Sum of the products ``[out, in]``."""
        assert self._cross is not None
        return self._cross

    @property
    def total(self) -> Tensor:
        """Sum of the drifts ``[out]``."""
        assert self._total is not None
        return self._total


class RegressionSums:
    """Sums over rows of inputs and of the outputs that they should give, for inputs that pruning changes."""

    def __init__(self) -> None:
        self._moments = Moments()
        self._cross: Tensor | None = None
        self._power = 0.0
        self._target: Tensor | None = None

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count rows ``x`` ``[..., in]`` and ``y`` ``[..., out]``."""
        x, y = (rows.detach().reshape(-1, rows.shape[-1]).float() for rows in (x, y))
        self._moments.add("regression", x)
        cross, target = (y.t() @ x).double(), y.sum(0, dtype=torch.float64)
        self._cross = cross if self._cross is None else self._cross + cross
        self._target = target if self._target is None else self._target + target
        self._power += float(y.double().square().sum())

    def sum_over_processes(self) -> None:
        """Complete the sums with those of the other processes."""
        self._moments.sum_over_processes()
        self._cross, self._target = distributed.summed(self._cross), distributed.summed(self._target)
        self._power = sum(distributed.gather(self._power))

    def regression(self) -> Regression:
        """Return the means over all rows.

        Raises:
            ValueError: No rows were added.
        """
        if self._cross is None or self._target is None:
            raise ValueError("no rows were added")
        rows = self._moments.rows
        return Regression(
            rows=rows,
            moments=self._moments.second,
            cross=self._cross / rows,
            power=self._power / rows,
            mean=self._moments.mean,
            target=self._target / rows,
        )
