"""Means and second moments of the inputs of linear layers, over all rows that samples bring."""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.calibration.second_moments import add_second_moments_, mean_of
from sottovoce.errors import NotFiniteError
from sottovoce.system import distributed


class Moments:
    """Sums over the rows of a layer's inputs."""

    def __init__(self) -> None:
        self.rows = 0
        self._second: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, name: str, x: Tensor) -> None:
        """Count the rows of ``x`` ``[..., in]``.

        Raises:
            NotFiniteError: A value is infinite or not a number; names the layer.
        """
        x = x.detach().reshape(-1, x.shape[-1]).float()
        if not x.numel():
            return
        if not bool(torch.isfinite(x.sum())):
            raise NotFiniteError(
                f"the inputs of the layer {name!r} are not finite; is the sample or the model damaged?"
            )
        self.rows += len(x)
        total = x.sum(0, dtype=torch.float64)
        self._total = total if self._total is None else self._total + total
        if self._second is None:
            self._second = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
        add_second_moments_(self._second, x)

    def sum_over_processes(self) -> None:
        """Complete the sums with those of the other processes; no rows are added after that."""
        self.rows = sum(distributed.gather(self.rows))
        self._total, self._second = distributed.summed(self._total), distributed.summed(self._second)

    @property
    def mean(self) -> Tensor:
        """Mean of the rows ``[in]``, float64."""
        if self._total is None:
            raise ValueError("no rows were added")
        return self._total / self.rows

    @property
    def second(self) -> Tensor:
        """Mean second moments ``[in, in]``, float64."""
        if self._second is None:
            raise ValueError("no rows were added")
        return mean_of(self._second, self.rows)
