"""Outputs of blocks on a sample, which stand for the blocks before a changed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree


class Replay:
    """Recorded outputs of a model's blocks, for further runs of the same sample.

    A change within a block leaves what runs before it as it was. So the blocks before it need not run again: their
    outputs are those that were recorded.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[str]) -> None:
        """Name the blocks; nothing is recorded yet."""
        self._module, self._blocks = module, tuple(blocks)
        self._outputs: dict[str, Any] = {}
        self._several: set[str] = set()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the outputs in the run within."""
        with ExitStack() as stack:
            for name in self._blocks:
                hook = self._module.get_submodule(name).register_forward_hook(self._recorder(name))
                stack.callback(hook.remove)
            yield

    def _recorder(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(_: nn.Module, __: Any, output: Any) -> None:
            if name in self._outputs:
                self._several.add(name)
            # What follows in the model may write into an output.
            self._outputs[name] = _copy(output)

        return record

    def before(self, layer: str) -> list[str]:
        """Return the blocks that ran before the one with a layer; none if that ran more than once, or not at all."""
        here = next((name for name in self._outputs if f"{layer}.".startswith(f"{name}.")), None)
        if here is None or here in self._several:
            return []
        order = list(self._outputs)
        return [name for name in order[: order.index(here)] if name not in self._several]

    @contextmanager
    def replaced(self, blocks: Sequence[str]) -> Iterator[None]:
        """Give the recorded outputs in place of the blocks."""
        modules = [self._module.get_submodule(name) for name in blocks]
        for name, module in zip(blocks, modules, strict=True):
            module.forward = self._answer(name)
        try:
            yield
        finally:
            for module in modules:
                del module.forward

    def _answer(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: _copy(self._outputs[name])


def _copy(value: Any) -> Any:
    return pytree.tree_map(lambda item: item.clone() if isinstance(item, Tensor) else item, value)
