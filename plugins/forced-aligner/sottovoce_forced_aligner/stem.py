"""The audio tower's convolutions, a few seconds of audio at a time.

The library runs each convolution over all seconds before the next one, and what lies between them takes 6 MB for each
second of audio. Here the first convolution computes nothing yet; the last one runs all three on a few seconds, then on
the next few. The values stay in the cache, and the memory no longer grows with the audio.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.runtime.backends import onednn

_SECONDS = 4

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Convolution:
    """One of the stem's, with the activation that follows it when it waits too."""

    layer: nn.Conv2d
    activated: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve ``[seconds, channels, bins, frames]``."""
        layer = self.layer
        plain = self.activated and layer.groups == 1 and layer.dilation == (1, 1)
        bfloat16 = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if plain and bfloat16 and not isinstance(layer.padding, str) and onednn.convolution_supported():
            return onednn.convolve_gelu(x, layer.weight, layer.bias, layer.stride, layer.padding)
        output = nn.Conv2d.forward(self.layer, x)
        return functional.gelu(output) if self.activated else output


class Pending:
    """A batch and the functions to run on it, a part at a time; for all else it is a tensor."""

    def __init__(self, batch: Tensor, functions: tuple[Function, ...]) -> None:
        """Remember functions that treat each item of ``batch`` by itself."""
        self._batch, self._functions = batch, functions

    def then(self, function: Function) -> Pending:
        """Return the same batch with one function more."""
        return Pending(self._batch, (*self._functions, function))

    def activated(self, options: Mapping[str, Any]) -> Pending:
        """Return the same batch with a GELU more: within the convolution before it where it is the exact one."""
        last = self._functions[-1]
        if isinstance(last, Convolution) and not last.activated and not options:
            return Pending(self._batch, (*self._functions[:-1], replace(last, activated=True)))
        return self.then(functools.partial(functional.gelu, **options))

    def value(self) -> Tensor:
        """Run all functions now."""
        return torch.cat([functools.reduce(lambda x, f: f(x), self._functions, part) for part in self._parts()])

    def _parts(self) -> Sequence[Tensor]:
        return torch.split(self._batch, _SECONDS)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Let the activation between convolutions wait as well; give all other functions of PyTorch the tensor."""
        if function is functional.gelu and len(arguments) == 1:
            return arguments[0].activated(options or {})
        values = [argument.value() if isinstance(argument, cls) else argument for argument in arguments]
        return function(*values, **(options or {}))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the tensor."""
        return getattr(self.value(), name)


class First(nn.Conv2d):
    """The convolution that only remembers."""

    def forward(self, x: Tensor) -> Any:
        """Remember ``[seconds, 1, bins, frames]``."""
        if self.weight.requires_grad and torch.is_grad_enabled():
            return super().forward(x)
        return Pending(x, (Convolution(self),))


class Middle(nn.Conv2d):
    """A convolution that joins what waits."""

    def forward(self, x: Any) -> Any:
        """Join what :class:`First` returned."""
        return x.then(Convolution(self)) if isinstance(x, Pending) else super().forward(x)


class Last(nn.Conv2d):
    """The convolution that runs everything."""

    def forward(self, x: Any) -> Tensor:
        """Run what :class:`Middle` returned."""
        return x.then(Convolution(self)).value() if isinstance(x, Pending) else super().forward(x)


def install_(tower: nn.Module) -> bool:
    """Have a tower's three convolutions work on a few seconds at a time; their weights stay where they are.

    Returns:
        True if the tower has them.
    """
    layers = [getattr(tower, f"conv2d{number}", None) for number in (1, 2, 3)]
    convolutions = [layer for layer in layers if type(layer) is nn.Conv2d]
    if len(convolutions) < len(layers):
        return False
    for layer, kind in zip(convolutions, (First, Middle, Last), strict=True):
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        layer.__class__ = kind
    return True
