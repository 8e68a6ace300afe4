"""Hidden states that leave layers, and runs of a model without some of its layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@torch.no_grad()
def record_states(model: Model, sample: Sample, entered: Collection[str], left: Collection[str]) -> States:
    """Run a sample, and return what enters some modules and what leaves some."""
    inputs: dict[str, list[Tensor]] = {}
    outputs: dict[str, list[Tensor]] = {}
    root = model.module
    with ExitStack() as stack:
        for name in entered:
            handle = root.get_submodule(name).register_forward_pre_hook(_adding_input(inputs, name), with_kwargs=True)
            stack.callback(handle.remove)
        for name in left:
            handle = root.get_submodule(name).register_forward_hook(_adding_output(outputs, name))
            stack.callback(handle.remove)
        model.architecture.runner.forward(model, sample)
    return States(*({name: torch.cat(rows) for name, rows in record.items()} for record in (inputs, outputs)))


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
