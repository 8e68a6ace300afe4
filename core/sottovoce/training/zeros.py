"""Single weights that pruning set to zero, which training leaves at zero."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

LEAST = 0.1
"""Share of a float matrix that must be zero for its zeros to be meant."""
LEAST_ROUNDED = 0.4
"""The same for a matrix of rounded weights: a quarter of 4-bit weights is rounded to zero, and may leave it."""


class Zeros:
    """Places of the zeros of pruned matrices."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        """Find the matrices with many zeros."""
        self._places: list[tuple[Tensor, Tensor]] = []
        for parameter in parameters:
            if parameter.dim() < 2:
                continue
            places = parameter.detach() == 0
            if float(places.sum()) >= LEAST * parameter.numel():
                self._places.append((parameter, places))

    def __len__(self) -> int:
        return len(self._places)

    @torch.no_grad()
    def restore_(self) -> None:
        """Set the weights at these places to zero again."""
        for parameter, places in self._places:
            parameter.masked_fill_(places, 0.0)
