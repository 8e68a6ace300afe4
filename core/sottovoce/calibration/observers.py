"""Observers of the inputs of a block's linear layers while the block runs on its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sottovoce.calibration.blocks import Block, StopPassError
from sottovoce.calibration.input_statistics import InputStatistics
from sottovoce.calibration.output_drift import OutputDrift
from sottovoce.system import distributed

Hook = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Order:
    """Order in which the layers of a block run."""

    groups: list[list[str]]
    """Layers in the order in which they run; those that read the very same tensor form a group."""
    once: bool
    """If true, no layer runs more than once in a pass, so a pass may end at the last layer that is observed."""


def layers_by_input(block: Block, names: Sequence[str]) -> Order:
    """Return the order of the layers on the first sample; each that it does not reach is a group at the end."""
    groups: list[list[str]] = []
    inputs: list[Tensor] = []
    once = True

    def note(name: str, x: Tensor) -> None:
        nonlocal once
        if any(name in group for group in groups):
            once = False
            return
        # The tensors are kept, or a later one could reuse the memory of an earlier one and look the same.
        same = [number for number, other in enumerate(inputs) if _is_same(x, other)]
        if same:
            groups[same[0]].append(name)
        else:
            groups.append([name])
            inputs.append(x)

    with _observing(block, names, note):
        next(block.run(), None)
    seen = {name for group in groups for name in group}
    unseen = [[name] for name in names if name not in seen]
    order = Order(groups + unseen, once and not unseen)
    if not block.is_divided:
        return order
    first = block.keys.index(block.sample_threads[0].sample.key) if block.sample_threads else len(block.keys)
    return min(distributed.gather((first, order)), key=lambda given: given[0])[1]


def observe(
    block: Block,
    names: Iterable[str],
    order: Order,
    *,
    moments: bool = True,
    drifts: Mapping[str, OutputDrift] | None = None,
) -> dict[str, InputStatistics]:
    """Run the block on all samples and return its layers' input statistics; layers of one group share theirs.

    Args:
        block: The block.
        names: Layers to observe.
        order: Order in which they run.
        moments: If true, second moments are summed.
        drifts: By the name of a layer whose outputs before any change the block has, the sums of their drift to add to.
    """
    observed, drifts = set(names), drifts or {}
    groups = [shared for group in order.groups if (shared := [name for name in group if name in observed])]
    counting = {group[0]: _empty_statistics(block, group[0], moments) for group in groups}
    hooked = dict.fromkeys((*counting, *drifts))
    left: set[str] = set()
    key = ""

    def note(name: str, x: Tensor) -> None:
        if name in counting:
            counting[name].add(name, x)
        if name in drifts:
            drifts[name].add(x, block.original_layer_outputs[name].get(key))
        left.discard(name)
        if order.once and not left:
            # What comes after in the block would be computed for nothing.
            raise StopPassError

    with _observing(block, list(hooked), note):
        outputs = block.run()
        for thread in block.sample_threads:
            left |= hooked.keys()
            key = thread.sample.key
            next(outputs)
        next(outputs, None)
    if block.is_divided:
        for counts in counting.values():
            counts.sum_over_processes()
        for drift in drifts.values():
            drift.sum_over_processes()
    return {name: counting[group[0]] for group in groups for name in group}


def _empty_statistics(block: Block, name: str, moments: bool) -> InputStatistics:
    layer = block.root.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return InputStatistics(layer.in_features, layer.weight.device, moments=moments)


def _is_same(x: Tensor, other: Tensor) -> bool:
    return x.data_ptr() == other.data_ptr() and x.shape == other.shape and x.stride() == other.stride()


def _observing(block: Block, names: Sequence[str], note: Hook) -> ExitStack:
    stack = ExitStack()
    for name in names:
        stack.callback(block.root.get_submodule(name).register_forward_pre_hook(_hook(name, note)).remove)
    return stack


def _hook(name: str, note: Hook) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        note(name, arguments[0])

    return hook
