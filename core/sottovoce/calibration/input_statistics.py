"""Statistics of a linear layer's inputs: their second moments, magnitudes and range."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sottovoce.errors import NotFiniteError
from sottovoce.runtime.backends.onednn_float import matmul_transposed
from sottovoce.system import distributed

_KEPT_PER_CALL = 4096
"""Number of input values kept of one call, to choose a range by; the extremes are always among them."""
_ROWS = 2048
"""Rows collected before they are multiplied: adding to the moments takes as long as multiplying a few hundred rows."""


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
            moments: If true, second moments are kept; they are ``features`` squared floats.
        """
        self.rows = 0
        self._second = torch.zeros(features, features, device=device) if moments else None
        self._waiting: list[Tensor] = []
        self.magnitude = torch.zeros(features, device=device)
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
            # A copy: the tensor is the model's, which may write to it.
            self._waiting.append(x.t().clone(memory_format=torch.contiguous_format))
            if sum(columns.shape[1] for columns in self._waiting) >= _ROWS:
                self._multiply()
        stride = -(-x.numel() // _KEPT_PER_CALL)
        while math.gcd(stride, x.shape[1]) > 1:
            stride += 1  # or the same few features would be sampled in every row
        self._values.append(torch.cat((x.flatten()[::stride], x.aminmax().min[None], x.aminmax().max[None])).cpu())

    def sum_over_processes(self) -> None:
        """Complete the statistics with those of the other processes; no rows are added after that."""
        self.rows = sum(distributed.gather(self.rows))
        sums = (self.magnitude,) if (second := self.second) is None else (self.magnitude, second)
        distributed.sum_(*sums)
        distributed.max_(self.largest)
        parts = distributed.gather(torch.cat(self._values) if self._values else None)
        self._values = [values for values in parts if values is not None]

    @property
    def second(self) -> Tensor | None:
        """Sum of the second moments ``[in, in]``, if they are kept."""
        self._multiply()
        return self._second

    def _multiply(self) -> None:
        if self._second is not None and self._waiting:
            across = torch.cat(self._waiting, 1)
            self._waiting.clear()
            self._second += matmul_transposed(across, across)

    @property
    def hessian(self) -> Tensor:
        """Mean second moments of the inputs ``[in, in]``: half the Hessian of the layer's squared output error."""
        second = self.second
        if second is None:
            raise ValueError("second moments were not kept")
        return second / max(self.rows, 1)

    @property
    def mean_magnitude(self) -> Tensor:
        """Mean absolute value of every input ``[in]``."""
        return self.magnitude / max(self.rows, 1)

    @property
    def values(self) -> Tensor:
        """Sample of all input values, with every call's extremes."""
        return torch.cat(self._values) if self._values else torch.zeros(1)

    def rescale(self, factors: Tensor) -> None:
        """Change the statistics to those of the same inputs divided by ``factors`` ``[in]``."""
        if (second := self.second) is not None:
            second /= factors[:, None] * factors[None, :]
        self.magnitude /= factors
        self.largest /= factors
