"""Removal of layers from a model in memory, and from the settings by which its own class builds it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from sottovoce.errors import PluginError
from sottovoce.pruning.layer_plan import LayerPart
from sottovoce.pruning.parts import set_setting_, setting
from sottovoce.report.number_format import counted

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model


def remove_layers_(model: Model, part: LayerPart, removed: Collection[str]) -> dict[str, int]:
    """Remove layers of one part; return the number of parameters of each.

    Raises:
        PluginError: The configuration has no such setting as the family's shape names.
    """
    numbers = [number for number, name in enumerate(part.layers) if name in removed]
    _change_settings_(model, part, numbers)
    container: Any = model.module.get_submodule(part.depth.layers)
    counts = {
        part.layers[number]: sum(parameter.numel() for parameter in container[number].parameters())
        for number in numbers
    }
    for number in reversed(numbers):
        del container[number]
    left = [number for number in range(len(part.layers)) if number not in numbers]
    for layer, before, after in zip(container, left, range(len(left)), strict=True):
        _renumber_(layer, part.depth.number_attributes, before, after)
    return counts


def _change_settings_(model: Model, part: LayerPart, numbers: Sequence[int]) -> None:
    depth = part.depth
    parent = model.module.get_submodule(depth.layers.rpartition(".")[0])
    for key in depth.keys:
        count = _typed(model, key, int)
        set_setting_(model, key, count - len(numbers))
        # Some classes keep the number beside the layers.
        name = key.rpartition(".")[2]
        if getattr(parent, name, None) == count:
            setattr(parent, name, count - len(numbers))
    for key in depth.lists:
        items = _typed(model, key, list)
        if len(items) != len(part.layers):
            raise PluginError(
                f"{model.architecture.name}: {key} has {counted(len(items), 'item')} for "
                f"{counted(len(part.layers), 'layer')}"
            )
        set_setting_(model, key, [item for number, item in enumerate(items) if number not in numbers])
    for key in depth.positions:
        value = setting(model, key)
        if isinstance(value, list):
            shifted = [_shifted(number, numbers) for number in value if number not in numbers]
            set_setting_(model, key, shifted)
        elif isinstance(value, int):
            set_setting_(model, key, _shifted(value, numbers))


def _shifted(number: int, removed: Sequence[int]) -> int:
    return number - sum(other < number for other in removed)


def _typed(model: Model, key: str, kind: type) -> Any:
    value = setting(model, key)
    if not isinstance(value, kind):
        raise PluginError(f"{model.architecture.name}: {key} is {value!r}, which the shape names for its layers")
    return value


def _renumber_(layer: nn.Module, attributes: Sequence[str], before: int, after: int) -> None:
    for module in layer.modules():
        for name in attributes:
            if getattr(module, name, None) == before:
                setattr(module, name, after)
