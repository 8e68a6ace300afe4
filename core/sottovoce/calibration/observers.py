"""Watching the inputs of the linear layers of a block while the block runs on its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sottovoce.calibration.blocks import Block
from sottovoce.calibration.input_statistics import InputStatistics

_END = object()

Hook = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Order:
    """How the layers of a block run."""

    groups: list[list[str]]
    """In the order in which they run, those that read the very same tensor together."""
    once: bool
    """Whether each runs no more than once in a pass, so that a pass may end at the last layer that is watched."""


class _EnoughError(Exception):
    """All that was watched has run."""


def layers_by_input(block: Block, names: Sequence[str]) -> Order:
    """The order of the layers on the first sample; those that it does not reach stand alone, at the end."""
    groups: list[list[str]] = []
    inputs: list[Tensor] = []
    once = True

    def note(name: str, x: Tensor) -> None:
        nonlocal once
        if any(name in group for group in groups):
            once = False
            return
        # The tensors are kept, or another could come to lie where one of them was.
        same = [number for number, other in enumerate(inputs) if _is_same(x, other)]
        if same:
            groups[same[0]].append(name)
        else:
            groups.append([name])
            inputs.append(x)

    with _watching(block, names, note):
        next(block.run(), None)
    seen = {name for group in groups for name in group}
    unseen = [[name] for name in names if name not in seen]
    return Order(groups + unseen, once and not unseen)


def observe(block: Block, names: Iterable[str], order: Order, *, moments: bool = True) -> dict[str, InputStatistics]:
    """Run the block on all samples and count what the layers are given; layers of one group share their counts."""
    wanted = set(names)
    statistics: dict[str, InputStatistics] = {}
    counting: dict[str, InputStatistics] = {}
    for group in order.groups:
        shared = [name for name in group if name in wanted]
        if not shared:
            continue
        layer = block.root.get_submodule(shared[0])
        assert isinstance(layer, nn.Linear)
        counts = InputStatistics(layer.in_features, layer.weight.device, moments=moments)
        statistics.update(dict.fromkeys(shared, counts))
        counting[shared[0]] = counts
    left: set[str] = set()

    def note(name: str, x: Tensor) -> None:
        counting[name].add(name, x)
        left.discard(name)
        if order.once and not left:
            # What comes after in the block would be computed for nothing.
            raise _EnoughError

    with _watching(block, list(counting), note):
        outputs = block.run(ends=_EnoughError)
        while True:
            left |= counting.keys()
            if next(outputs, _END) is _END:
                return statistics


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


def _watching(block: Block, names: Sequence[str], note: Hook) -> ExitStack:
    stack = ExitStack()
    for name in names:
        stack.callback(block.root.get_submodule(name).register_forward_pre_hook(_hook(name, note)).remove)
    return stack


def _hook(name: str, note: Hook) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        note(name, arguments[0])

    return hook
