"""Means and second moments of the inputs of linear layers, over all rows that samples bring."""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce.errors import NotFiniteError
from sottovoce.runtime.backends.onednn_float import matmul_transposed
from sottovoce.system import distributed

_ROWS = 2048
"""Rows that are collected before they are multiplied."""


class Moments:
    """Sums over the rows of a layer's inputs."""

    def __init__(self) -> None:
        self.rows = 0
        self._second: Tensor | None = None
        self._total: Tensor | None = None
        self._waiting: list[Tensor] = []

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
        # A copy: the tensor is the model's, which may write to it.
        self._waiting.append(x.t().clone(memory_format=torch.contiguous_format))
        if sum(columns.shape[1] for columns in self._waiting) >= _ROWS:
            self._multiply()

    def sum_over_processes(self) -> None:
        """Complete the sums with those of the other processes; no rows are added after that."""
        self._multiply()
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
        self._multiply()
        if self._second is None:
            raise ValueError("no rows were added")
        return self._second / self.rows

    def _multiply(self) -> None:
        if self._waiting:
            across = torch.cat(self._waiting, 1)
            self._waiting.clear()
            product = matmul_transposed(across, across).double()
            self._second = product if self._second is None else self._second + product
