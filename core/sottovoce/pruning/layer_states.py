"""Hidden states that leave layers, and runs of a model without some of its layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.samples import Sample


@contextmanager
def without_layers(root: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Let what enters some layers leave them unchanged, as if they were not there.

    They run all the same, so that whatever else a layer returns, and its number in caches and masks, stay right.
    """
    with ExitStack() as stack:
        for name in names:
            handle = root.get_submodule(name).register_forward_hook(_pass_through, with_kwargs=True)
            stack.callback(handle.remove)
        yield


@dataclass(frozen=True)
class States:
    """Rows that entered and left modules when a sample ran, by name of the module ``[rows, width]``, float32.

    A module that the sample does not reach is left out.
    """

    entered: Mapping[str, Tensor]
    left: Mapping[str, Tensor]


class StateHooks:
    """Hooks that record what enters some modules and what leaves some."""

    def __init__(self, root: nn.Module, entered: Collection[str], left: Collection[str]) -> None:
        """Name the modules in ``root``."""
        self._root, self._entered, self._left = root, set(entered), set(left)
        self._inputs: dict[str, list[Tensor]] = {}
        self._outputs: dict[str, list[Tensor]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for name in self._entered:
            hook = _adding_input(self._inputs, name)
            handle = self._root.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True)
            self._stack.callback(handle.remove)
        for name in self._left:
            handle = self._root.get_submodule(name).register_forward_hook(_adding_output(self._outputs, name))
            self._stack.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def take(self) -> States:
        """Return what was recorded since the last call."""
        states = States(*({name: torch.cat(rows) for name, rows in of.items()} for of in (self._inputs, self._outputs)))
        self._inputs.clear()
        self._outputs.clear()
        return states


@torch.no_grad()
def record_states(model: Model, sample: Sample, entered: Collection[str], left: Collection[str]) -> States:
    """Run a sample, and return what enters some modules and what leaves some."""
    with StateHooks(model.module, entered, left) as hooks:
        model.architecture.runner.forward(model, sample)
        return hooks.take()


def _adding_input(records: dict[str, list[Tensor]], name: str) -> Callable[..., None]:
    return lambda _, arguments, named: records.setdefault(name, []).append(_rows(_first(arguments, named)))


def _adding_output(records: dict[str, list[Tensor]], name: str) -> Callable[..., None]:
    return lambda _, __, output: records.setdefault(name, []).append(_rows(output))


def _rows(value: Any) -> Tensor:
    # A copy: later layers may write to it.
    hidden: Tensor = (value[0] if isinstance(value, tuple | list) else value).detach()
    return hidden.reshape(-1, hidden.shape[-1]).to(torch.float32, copy=True)


def _pass_through(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    entered = _first(arguments, named)
    return (entered, *output[1:]) if isinstance(output, tuple | list) else entered


def _first(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return arguments[0] if arguments else next(iter(named.values()))
