"""Inputs of the layers that read hidden units, as moments over the calibration samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sottovoce.calibration.blocks import Block, hidden_states
from sottovoce.calibration.held_out import SplitThreads
from sottovoce.calibration.routing import Routed, routed
from sottovoce.pruning.moments import Moments
from sottovoce.pruning.refit import Drift
from sottovoce.pruning.width_layer import WidthLayer

if TYPE_CHECKING:
    from sottovoce.calibration.sample_threads import SampleThread


_DAMP = 0.2
"""Damping of what makes up for the drift of one layer's outputs: that is little, and follows few rows too easily."""


@dataclass(frozen=True)
class LayerInputs:
    """Hidden units of one layer on the samples, those of the fit and those held out."""

    layer: WidthLayer
    fitted: Moments = field(default_factory=Moments)
    held_out: Moments = field(default_factory=Moments)
    fitted_drift: Drift = field(init=False)
    held_out_drift: Drift = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count what the outputs lack."""
        for name in ("fitted_drift", "held_out_drift"):
            object.__setattr__(self, name, new_drift(self.layer))


def observe_layers(block: Block, layers: Sequence[WidthLayer], split: SplitThreads) -> Iterator[LayerInputs]:
    """Run a block on its samples, and yield the inputs of one layer after another.

    The experts of a mixture are run one by one on the tokens that are routed to them, each row times its gate value:
    the error of an expert's output counts as much as the output does.
    """
    dense = [LayerInputs(layer) for layer in layers if not layer.is_expert]
    if dense:
        for threads, of in ((split.fitted, "fitted"), (split.held_out, "held_out")):
            _observe_dense(block, dense, threads, of)
        yield from dense
    mixtures: dict[str, list[WidthLayer]] = {}
    for layer in layers:
        if layer.is_expert:
            mixtures.setdefault(layer.name.rpartition(".")[0], []).append(layer)
    for mixture, experts in mixtures.items():
        yield from _observe_experts(block, mixture, experts, split)


def _observe_dense(block: Block, layers: Sequence[LayerInputs], threads: Sequence[SampleThread], of: str) -> None:
    rows: dict[str, Tensor] = {}

    def add(inputs: LayerInputs, x: Tensor) -> None:
        getattr(inputs, of).add(inputs.layer.output, x)
        rows[inputs.layer.name] = x.reshape(-1, x.shape[-1]).float()

    hooks = {inputs.layer.output: functools.partial(add, inputs) for inputs in layers}
    for thread, output in run_with_hooks(block, threads, hooks):
        for inputs in layers:
            x = rows.get(inputs.layer.name)
            drift = None if x is None else drift_of(block, inputs.layer, thread.sample.key, x, output)
            if x is not None and drift is not None:
                getattr(inputs, f"{of}_drift").add(drift, x)
        rows.clear()
    if block.is_divided:
        for inputs in layers:
            getattr(inputs, of).sum_over_processes()
            getattr(inputs, f"{of}_drift").sum_over_processes()


def new_drift(layer: WidthLayer) -> Drift:
    """Return the drift of a layer without rows yet."""
    return Drift(_DAMP if layer.drifts_alone else None)


@torch.no_grad()
def drift_of(block: Block, layer: WidthLayer, key: str, x: Tensor, output: Any) -> Tensor | None:
    """Return what the outputs of a layer, with all of its units, lack of those in the unchanged model.

    Args:
        block: The block that holds the layer.
        layer: The layer; where it is the last of the block, its outputs are the hidden states.
        key: Key of the sample.
        x: Inputs of the layer that reads the units ``[rows, units]``.
        output: What the block gave for the sample.

    Returns:
        ``[rows, out]``; ``None`` where the unchanged model's are not known or have other rows.
    """
    if layer.width.is_last:
        original, now = block.original_outputs.get(key), hidden_states(output)
    else:
        original, now = block.original_layer_outputs.get(layer.output, {}).get(key), None
        if original is not None:
            linear = layer.linear(block.root, layer.width.output)
            now = functional.linear(x, linear.weight.float(), None if linear.bias is None else linear.bias.float())
    if original is None or now is None or original.numel() != now.numel():
        return None
    drift = original.reshape(-1, original.shape[-1]).float() - now.reshape(-1, now.shape[-1]).float()
    return drift if len(drift) == len(x) else None


def run_with_hooks(
    block: Block, threads: Sequence[SampleThread], hooks: Mapping[str, Callable[[Tensor], None]]
) -> Iterator[tuple[SampleThread, Any]]:
    """Run a block on samples, calling a function with every input of some of its modules.

    Args:
        block: The block.
        threads: The samples.
        hooks: Functions by the name of the module in the model.
    """
    with ExitStack() as stack:
        for name, function in hooks.items():
            handle = block.root.get_submodule(name).register_forward_pre_hook(_hook(function))
            stack.callback(handle.remove)
        yield from zip(threads, block.run(threads), strict=True)


def _observe_experts(
    block: Block, mixture: str, experts: Sequence[WidthLayer], split: SplitThreads
) -> Iterator[LayerInputs]:
    fitted = routed(block, mixture, sample_threads=split.fitted)
    held_out = routed(block, mixture, sample_threads=split.held_out) if split.is_held_out else fitted
    for layer in experts:
        inputs = LayerInputs(layer)
        for tokens, moments in ((fitted, inputs.fitted), (held_out, inputs.held_out)):
            if tokens is not None:
                _add_routed(block.root, layer, tokens, moments)
        yield inputs


def _add_routed(root: nn.Module, layer: WidthLayer, tokens: Routed, moments: Moments) -> None:
    number = int(layer.name.rpartition(".")[2])
    rows, slots = (tokens.index == number).nonzero(as_tuple=True)
    if len(rows):
        expert: Any = root.get_submodule(layer.name)
        moments.add(layer.output, expert.hidden(tokens.hidden[rows]) * tokens.weight[rows, slots, None])


def _hook(function: Callable[[Tensor], None]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        function(arguments[0])

    return hook
