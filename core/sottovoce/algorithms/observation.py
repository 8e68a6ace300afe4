"""Watching the inputs of the linear layers of a block while the block runs on its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from sottovoce.algorithms.statistics import InputStatistics
from sottovoce.walk import Block

Hook = Callable[[str, Tensor], None]


def layers_by_input(block: Block, names: Sequence[str]) -> list[list[str]]:
    """The layers in the order in which they run, those that read the very same tensor together.

    Layers that the first sample does not reach stand alone, at the end.
    """
    groups: list[list[str]] = []
    inputs: list[Tensor] = []

    def note(name: str, x: Tensor) -> None:
        if any(name in group for group in groups):
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
    return groups + [[name] for name in names if name not in seen]


def observe(
    block: Block, names: Iterable[str], groups: Sequence[Sequence[str]], *, moments: bool = True
) -> dict[str, InputStatistics]:
    """Run the block on all samples and count what the layers are given; layers of one group share their counts."""
    wanted = set(names)
    statistics: dict[str, InputStatistics] = {}
    counting: dict[str, InputStatistics] = {}
    for group in groups:
        shared = [name for name in group if name in wanted]
        if not shared:
            continue
        layer = block.root.get_submodule(shared[0])
        assert isinstance(layer, nn.Linear)
        counts = InputStatistics(layer.in_features, layer.weight.device, moments=moments)
        statistics.update(dict.fromkeys(shared, counts))
        counting[shared[0]] = counts
    with _watching(block, list(counting), lambda name, x: counting[name].add(name, x)):
        for _ in block.run():
            pass
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
