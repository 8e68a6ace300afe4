"""Exponential moving average (EMA) of the weights in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sottovoce.training.checkpoints import like, whole


class MovingAverage:
    """Averages of the parameters that are trained, by name."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Begin with the weights as they are."""
        self._decay, self._updates = decay, 0
        self.state = {name: tensor.detach().clone() for name, tensor in _trained(module).items()}

    def update_(self, module: nn.Module) -> None:
        """Take the weights after an update; the first ones count more, since the average has seen few."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        current = [tensor.detach() for tensor in _trained(module).values()]
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(list(self.state.values()), current, None)

    def load_(self, state: dict[str, Tensor]) -> None:
        """Take the averages of a checkpoint, with the number of updates that they have had."""
        self._updates = int(state["updates"].item())
        for name, tensor in self.state.items():
            tensor.copy_(like(tensor, state[name]))

    def whole(self) -> dict[str, Tensor]:
        """Return the averages and the number of updates, for a checkpoint."""
        averages = {name: whole(tensor) for name, tensor in self.state.items()}
        return {**averages, "updates": torch.tensor(self._updates)}

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """Have the averages in place of the weights."""
        parameters = _trained(module)
        with torch.no_grad():
            kept = {name: tensor.detach().clone() for name, tensor in parameters.items()}
            for name, tensor in parameters.items():
                tensor.copy_(self.state[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in parameters.items():
                    tensor.copy_(kept[name])


def _trained(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
