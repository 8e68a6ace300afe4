"""Time of layers by their shape and choice, measured on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sottovoce.recipe.scheme import Strategy
from sottovoce.runtime.layers import replace_
from sottovoce.quantization.data_free import quantize_layer_
from sottovoce.quantization.step import Quantize
from sottovoce.recipe_search.choices import FLOAT, Choice

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.samples import Sample
    from sottovoce.recipe_search.units import Layer, Unit

_ROUNDS = 7
_STEP = {"bits": 8}


@dataclass
class Latencies:
    """Seconds of a model on a typical sample, and of its layers by shape and choice.

    Layers run one after another, so their times add up.
    """

    total_seconds: float
    """Median time of the float model on the sample."""
    rows: Mapping[str, tuple[int, ...]]
    """By layer, the rows that each of its calls is given."""
    times: dict[tuple[int, int, int, str], float] = field(default_factory=dict)
    """Median seconds by outputs, inputs, rows and choice."""
    float_seconds: float = 0.0
    """Time of all layers in float, of the total."""

    @property
    def fixed_seconds(self) -> float:
        """Time that no choice changes."""
        return max(self.total_seconds - self.float_seconds, 0.0)

    def seconds(self, layer: Layer, choice: Choice) -> float:
        """Return the time of a layer on the sample."""
        if layer.is_table:
            return 0.0
        return sum(
            self.times.get((layer.outputs, layer.inputs, rows, choice.name), 0.0)
            for rows in self.rows.get(layer.name, ())
        )


def measure_latencies(
    model: Model, sample: Sample, shapes: Sequence[tuple[Layer, Choice]], strategy: Strategy
) -> Latencies:
    """Measure the model on a sample, and every shape with every choice that it may get.

    The choices of a shape take turns, and a time is the median of the turns.

    Args:
        model: The float model.
        sample: A typical sample.
        shapes: Layers, as they are and as they would be pruned, with their choices.
        strategy: Range of rounded inputs.
    """
    names = {layer.name for layer, _ in shapes if not layer.is_table}
    rows = _rows(model, sample, names)
    latencies = Latencies(_median_of(lambda: model.architecture.runner.forward(model, sample)), rows)
    tasks: dict[tuple[int, int, int], dict[str, nn.Module]] = {}
    for layer, choice in shapes:
        for count in set(rows.get(layer.name, ())):
            modules = tasks.setdefault((layer.outputs, layer.inputs, count), {})
            if choice.name not in modules:
                modules[choice.name] = _module(layer, choice, strategy, next(model.module.parameters()).dtype)
    for (outputs, inputs, count), modules in tasks.items():
        x = torch.randn(count, inputs, dtype=next(model.module.parameters()).dtype)
        for name, seconds in _take_turns(modules, x).items():
            latencies.times[outputs, inputs, count, name] = seconds
    return latencies
