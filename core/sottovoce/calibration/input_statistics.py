"""Statistics of a linear layer's inputs: their second moments, magnitudes and range."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sottovoce.calibration.second_moments import add_second_moments_, mean_of
from sottovoce.errors import NotFiniteError
from sottovoce.system import distributed

_KEPT_PER_CALL = 4096
"""Number of input values kept of one call, to choose a range by; the extremes are always among them."""


class InputStatistics:
    """Sums over all input rows of a layer.

    One set of sums serves every method: GPTQ needs the second moments, AWQ the mean magnitudes, SmoothQuant the largest
    magnitudes, static activations a sample of the values.
    """

    def __init__(self, features: int, device: torch.device | str = "cpu", *, moments: bool = True) -> None:
        """Create empty statistics.

        Args:
            features: Size of an input.
            device: Device of the sums.
            moments: If true, second moments are kept; they are ``features`` squared floats of eight bytes.
        """
        self.rows = 0
        self._second = torch.zeros(features, features, dtype=torch.float64, device=device) if moments else None
        self.magnitude = torch.zeros(features, dtype=torch.float64, device=device)
        self.largest = torch.zeros(features, device=device)
        self._values: list[Tensor] = []

    def add(self, name: str, x: Tensor) -> None:
        """Count the rows of ``x`` ``[..., features]``.

        Raises:
            NotFiniteError: A value is infinite or not a number; names the layer.
        """
        x = x.detach().reshape(-1, x.shape[-1]).float()
        if not x.numel():
            return
        magnitudes = x.abs()
        largest = magnitudes.amax(0)
        if not bool(torch.isfinite(largest).all()):
            raise NotFiniteError(
                f"the inputs of the layer {name!r} are not finite; is the sample or the model damaged?"
            )
        self.rows += len(x)
        self.magnitude += magnitudes.sum(0)
        torch.maximum(self.largest, largest, out=self.largest)
        if self._second is not None:
            add_second_moments_(self._second, x)
        stride = -(-x.numel() // _KEPT_PER_CALL)
        while math.gcd(stride, x.shape[1]) > 1:
            stride += 1  # or the same few features would be sampled in every row
        self._values.append(torch.cat((x.flatten()[::stride], x.aminmax().min[None], x.aminmax().max[None])).cpu())

    def sum_over_processes(self) -> None:
        """Complete the statistics with those of the other processes; no rows are added after that."""
        self.rows = sum(distributed.gather(self.rows))
        sums = (self.magnitude,) if self._second is None else (self.magnitude, self._second)
        distributed.sum_(*sums)
        distributed.max_(self.largest)
        parts = distributed.gather(torch.cat(self._values) if self._values else None)
        self._values = [values for values in parts if values is not None]

    @property
    def hessian(self) -> Tensor:
        """Mean second moments of the inputs ``[in, in]``, float32: half the Hessian of the layer's squared error."""
        if self._second is None:
            raise ValueError("second moments were not kept")
        return mean_of(self._second, self.rows).float()

    @property
    def mean_magnitude(self) -> Tensor:
        """Mean absolute value of every input ``[in]``."""
        return (self.magnitude / max(self.rows, 1)).float()

    @property
    def values(self) -> Tensor:
        """Sample of all input values, with every call's extremes."""
        return torch.cat(self._values) if self._values else torch.zeros(1)

    def rescale(self, factors: Tensor) -> None:
        """Change the statistics to those of the same inputs divided by ``factors`` ``[in]``."""
        if self._second is not None:
            self._second /= factors[:, None] * factors[None, :]
        self.magnitude /= factors
        self.largest /= factors
