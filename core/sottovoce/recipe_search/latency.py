"""Time of layers by their shape and choice, measured on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sottovoce.quantization.data_free import quantize_layer_
from sottovoce.quantization.step import Quantize
from sottovoce.recipe.scheme import Strategy
from sottovoce.recipe_search.choices import FLOAT, Choice
from sottovoce.system.progress import Progress, silent

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.recipe_search.units import Layer
    from sottovoce.samples import Sample

_ROUNDS = 9
_MODEL_ROUNDS = 31
"""Turns of whole models, whose times are compared with a budget."""
_LEAST_SECONDS = 1e-3
"""Time that a turn takes at least: shorter layers run several times."""


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
    """Median seconds by outputs, inputs, rows and the choice's name."""
    fixed_seconds: float = 0.0
    """Time that no choice of a layer changes."""
    others: dict[str, float] = field(default_factory=dict)
    """Seconds of a module that may be removed, without its linear layers: attention and norms, for instance."""

    def seconds(self, layer: Layer, choice: Choice) -> float:
        """Return the time of a layer on the sample; 0 for tables, which are looked up."""
        return sum(self.times[_key(layer, rows, choice)] for rows in self.rows.get(layer.name, ()))


def measure_latencies(
    model: Model,
    sample: Sample,
    layers: Mapping[str, Layer],
    shapes: Iterable[tuple[Layer, Choice]],
    strategy: Strategy,
    removable: Sequence[str] = (),
    progress: Progress = silent,
) -> Latencies:
    """Measure the model on a sample, and every shape with every choice that it may get.

    The choices of a shape take turns, and a time is the median of the turns.

    Args:
        model: The float model.
        sample: A typical sample.
        layers: The model's layers as they are.
        shapes: Layers, as they are and as they would be pruned, with their choices.
        strategy: Range of rounded inputs.
        removable: Modules that may be removed.
        progress: Called after every shape.
    """

    def run() -> None:
        with torch.inference_mode():
            model.architecture.runner.forward(model, sample)

    latencies = Latencies(_take_turns({"": run})[""], _rows(model, run, layers))
    dtype = next(model.module.parameters()).dtype
    tasks: dict[tuple[int, int, int], dict[str, tuple[Layer, Choice]]] = {}
    for layer, choice in shapes:
        for rows in latencies.rows.get(layer.name, ()):
            tasks.setdefault((layer.outputs, layer.inputs, rows), {}).setdefault(choice.name, (layer, choice))
    for number, ((outputs, inputs, rows), choices) in enumerate(tasks.items()):
        x = torch.randn(rows, inputs, dtype=dtype)
        calls = {name: _call(_module(*pair, strategy, dtype), x) for name, pair in choices.items()}
        for name, seconds in _take_turns(calls).items():
            latencies.times[outputs, inputs, rows, name] = seconds
        progress("latency", number + 1, len(tasks))
    floats = sum(latencies.seconds(layer, FLOAT) for layer in layers.values())
    latencies.fixed_seconds = max(latencies.total_seconds - floats, 0.0)
    for name, seconds in _module_seconds(model, run, removable).items():
        inner = [layer for layer in layers.values() if layer.name.startswith(f"{name}.")]
        latencies.others[name] = max(seconds - sum(latencies.seconds(layer, FLOAT) for layer in inner), 0.0)
    return latencies


def seconds_of(models: Mapping[str, Model], sample: Sample) -> dict[str, float]:
    """Return the median seconds of models on a sample, which they run in turns."""

    def call(model: Model) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                model.architecture.runner.forward(model, sample)

        return run

    return _take_turns({name: call(model) for name, model in models.items()}, _MODEL_ROUNDS)


def _key(layer: Layer, rows: int, choice: Choice) -> tuple[int, int, int, str]:
    return layer.outputs, layer.inputs, rows, choice.name


def _module_seconds(model: Model, run: Callable[[], None], names: Sequence[str]) -> dict[str, float]:
    """Return the median seconds that modules take in a run."""
    begins: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in names}

    def starter(name: str) -> Callable[..., None]:
        return lambda *_: begins.update({name: time.perf_counter()})

    def stopper(name: str) -> Callable[..., None]:
        def stop(*_: Any) -> None:
            times[name][-1] += time.perf_counter() - begins[name]

        return stop

    with ExitStack() as stack:
        for name in names:
            module = model.module.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(starter(name)).remove)
            stack.callback(module.register_forward_hook(stopper(name)).remove)
        for _ in range(_ROUNDS if names else 0):
            for seconds in times.values():
                seconds.append(0.0)
            run()
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def _rows(model: Model, run: Callable[[], None], layers: Mapping[str, Layer]) -> dict[str, tuple[int, ...]]:
    """Return the number of rows of every call of the linear layers in one run."""
    rows: dict[str, tuple[int, ...]] = {}

    def counter(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def count(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            x = arguments[0]
            rows[name] = (*rows.get(name, ()), x.numel() // x.shape[-1])

        return count

    with ExitStack() as stack:
        for name, layer in layers.items():
            if not layer.is_table:
                stack.callback(model.module.get_submodule(name).register_forward_pre_hook(counter(name)).remove)
        run()
    return {name: tuple(count for count in counts if count) for name, counts in rows.items()}


def _module(layer: Layer, choice: Choice, strategy: Strategy, dtype: torch.dtype) -> nn.Module:
    linear = nn.Linear(layer.inputs, layer.outputs, layer.has_bias, dtype=dtype).requires_grad_(False)
    holder = nn.ModuleDict({"layer": linear})
    scheme = choice.scheme(layer.width, strategy, layer.is_weight_only)
    if scheme is not None:
        quantize_layer_(holder, "layer", scheme, Quantize())
    return holder["layer"].eval()


def _call(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            module(x)

    return call


def _take_turns(calls: Mapping[str, Callable[[], None]], rounds: int = _ROUNDS) -> dict[str, float]:
    """Return the median seconds of every call, which take turns so that other work slows all alike."""
    repeats: dict[str, int] = {}
    for name, call in calls.items():
        call()  # once, for what is prepared at the first run
        begin = time.perf_counter()
        call()
        repeats[name] = max(1, round(_LEAST_SECONDS / max(time.perf_counter() - begin, 1e-7)))
    turns: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            turns[name].append((time.perf_counter() - begin) / repeats[name])
    return {name: statistics.median(seconds) for name, seconds in turns.items()}
