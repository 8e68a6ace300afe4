"""Distances between what a student gives and what its teacher gave, item by item."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

Distance = Callable[[Tensor, Tensor, float], Tensor]
"""Function ``distance(student, teacher, temperature)`` that returns ``[items]`` for two tensors ``[items, ...]``."""


def kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute KL(teacher || student) of logits at a temperature, times its square (Hinton et al., arXiv 1503.02531).

    The square keeps the size of the gradients where the temperature is changed.
    """
    learned = functional.log_softmax(student / temperature, dim=-1)
    given = functional.log_softmax(teacher / temperature, dim=-1)
    divergence = functional.kl_div(learned, given, log_target=True, reduction="none").sum(-1)
    return divergence * temperature**2


def earth_mover(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the distance, in classes, that probability has to move between two distributions over ordered classes.

    It is the sum of the absolute differences of the cumulative distributions. A divergence is as large for the next
    class as for the last one; this is not.
    """
    learned = functional.softmax(student / temperature, dim=-1).cumsum(-1)
    given = functional.softmax(teacher / temperature, dim=-1).cumsum(-1)
    return (learned - given).abs().sum(-1)


def squared(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the mean squared difference of each item, which may be a number."""
    return _mean_of_items((student - teacher).square())


def absolute(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the mean absolute difference of each item, which may be a number."""
    return _mean_of_items((student - teacher).abs())


def _mean_of_items(values: Tensor) -> Tensor:
    """Return ``[items]`` of ``[items, ...]``; there may be no items."""
    return values.flatten(1).mean(-1) if values.dim() > 1 else values


DISTANCES: dict[str, Distance] = {function.__name__: function for function in (kl, earth_mover, squared, absolute)}
"""Every distance by its name."""
