"""Pairs of a module of a block and the layers that read it, which can be scaled, as a family's plugin states them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from sottovoce.quantization.smoothquant import scale_between_
from sottovoce.recipe.pattern import matches

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture


@dataclass(frozen=True)
class ModulePair:
    """A module, and all that reads its output.

    Attributes:
        source: The module; its outputs may be divided by factors.
        names: The consumers' names in the model.
        consumers: Linear layers, and others that multiply their input by a weight ``[out, in]``, such as a router.
    """

    source: nn.Module
    names: tuple[str, ...]
    consumers: tuple[nn.Module, ...]

    @property
    def layers(self) -> dict[str, nn.Linear]:
        """The consumers that are linear layers, by name."""
        pairs = zip(self.names, self.consumers, strict=True)
        return {name: consumer for name, consumer in pairs if isinstance(consumer, nn.Linear)}

    def scale_(self, factors: Tensor) -> None:
        """Divide the source's outputs by ``factors`` and multiply the consumers' weights."""
        scale_between_(self.source, self.consumers, factors)


def pairs_in(architecture: Architecture, name: str, block: nn.Module) -> Iterator[ModulePair]:
    """Yield what can be scaled in a block, in the order that the family states.

    Args:
        architecture: The family.
        name: The block's name in the model.
        block: The block as it is now: a pair that it lacks, or that is quantized already, is left out.
    """
    modules = dict(block.named_modules())
    kind, stated = type(block).__name__, architecture.layers.scale_pairs
    matching = [pair for pattern, pairs in stated.items() if matches(name, kind, pattern) for pair in pairs]
    for scale_pair in matching:
        for source, templates in _sources(scale_pair.source, scale_pair.consumers, modules):
            names = [_consumers(template, modules) for template in templates]
            consumers = [reader_name for group in names for reader_name in group]
            pair = ModulePair(
                modules[source],
                tuple(f"{name}.{consumer}" for consumer in consumers),
                tuple(modules[consumer] for consumer in consumers),
            )
            if all(names) and _fits(pair):
                yield pair


def _sources(
    pattern: str, consumers: tuple[str, ...], modules: dict[str, nn.Module]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every module that a source's pattern means, with the consumers' names for it."""
    if not pattern.startswith("re:"):
        if pattern in modules:
            yield pattern, consumers
        return
    for name in modules:
        if match := re.fullmatch(pattern[3:], name):
            yield (
                name,
                tuple(match.expand(consumer) if not consumer.startswith("re:") else consumer for consumer in consumers),
            )


def _consumers(pattern: str, modules: dict[str, nn.Module]) -> list[str]:
    if not pattern.startswith("re:"):
        return [pattern] if pattern in modules else []
    return [name for name in modules if re.fullmatch(pattern[3:], name)]


def _fits(pair: ModulePair) -> bool:
    outputs = getattr(pair.source, "weight", None)
    if not isinstance(outputs, nn.Parameter):
        return False
    weights = [getattr(consumer, "weight", None) for consumer in pair.consumers]
    return all(
        isinstance(weight, nn.Parameter) and weight.ndim == 2 and weight.shape[1] == outputs.shape[0]
        for weight in weights
    )
