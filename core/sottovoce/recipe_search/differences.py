"""Modules in which two models differ, in units that can be exchanged between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sottovoce.recipe.pattern import matches
from sottovoce.runtime.experts import experts_in
from sottovoce.runtime.layers import QUANTIZED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.architecture import Architecture


@dataclass(frozen=True)
class Unit:
    """Modules that are exchanged together."""

    name: str
    modules: tuple[str, ...]


def differing_units(
    changed: nn.Module, original: nn.Module, architecture: Architecture, *, by_block: bool = False
) -> list[Unit]:
    """Return the units in which a compressed model differs from the original, in the order of the model.

    A unit is a layer, or the experts of a mixture together. Where shapes differ, so that a layer does not fit into the
    other model, it is the whole block; where the blocks differ, it is the module that holds them.

    Args:
        changed: The compressed model.
        original: The original.
        architecture: Their family, which names the blocks.
        by_block: If true, every unit is a whole block, as far as layers are in blocks.

    Returns:
        The units; one with an empty name if nothing less than the whole model can be exchanged.
    """
    blocks = block_names(original, architecture)
    mixtures = {name for name, _ in experts_in(original)}
    groups: dict[str, list[str]] = {}
    whole: set[str] = set()
    for name, fits in _changes("", changed, original):
        block = next((block for block in blocks if f"{name}.".startswith(f"{block}.")), None)
        mixture = next((mixture for mixture in mixtures if name.startswith(f"{mixture}.")), None)
        if block is not None and (by_block or not fits):
            whole.add(block)
            groups.setdefault(block, []).append(name)
        else:
            groups.setdefault(mixture or name, []).append(name)
    outer = {name for name in whole if not any(name != other and name.startswith(f"{other}.") for other in whole)}
    units = []
    for name, modules in groups.items():
        if name in outer:
            units.append(Unit(name, (name,)))
        elif not any(f"{name}.".startswith(f"{block}.") for block in outer):
            units.append(Unit(name, tuple(modules)))
    return units


def block_names(module: nn.Module, architecture: Architecture) -> list[str]:
    """Return the names of the family's blocks in a model, in its order."""
    return [
        name
        for name, child in module.named_modules()
        if any(matches(name, type(child).__name__, pattern) for pattern in architecture.layers.blocks)
    ]


def _changes(name: str, changed: nn.Module, original: nn.Module) -> Iterator[tuple[str, bool]]:
    """Yield the modules that differ, and whether each fits into the place of the other."""
    if isinstance(changed, QUANTIZED):
        if not _is_same_layer(changed, original):
            yield name, _sizes(changed) == _sizes(original)
        return
    tensors, others = _own_tensors(changed), _own_tensors(original)
    children, other_children = dict(changed.named_children()), dict(original.named_children())
    is_alike = tensors.keys() == others.keys() and children.keys() == other_children.keys()
    if not is_alike or any(tensors[key].shape != others[key].shape for key in tensors):
        yield name, False
    elif not all(torch.equal(tensors[key].float(), others[key].float()) for key in tensors):
        yield name, True
    else:
        for key, child in children.items():
            yield from _changes(f"{name}.{key}" if name else key, child, other_children[key])


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and stored buffers, without those of its children."""
    fleeting = module._non_persistent_buffers_set
    buffers = {name: buffer for name, buffer in module.named_buffers(recurse=False) if name not in fleeting}
    return {**dict(module.named_parameters(recurse=False)), **buffers}


def _is_same_layer(changed: nn.Module, original: nn.Module) -> bool:
    """Return whether both are layers of one class, with the same scheme and the same stored tensors."""
    if type(changed) is not type(original) or getattr(changed, "scheme", None) != getattr(original, "scheme", None):
        return False
    tensors, others = changed.state_dict(), original.state_dict()
    return tensors.keys() == others.keys() and all(torch.equal(tensors[key], others[key]) for key in tensors)


def _sizes(layer: nn.Module) -> tuple[object, ...]:
    names = ("in_features", "out_features", "num_embeddings", "embedding_dim")
    return tuple(getattr(layer, name, None) for name in names)
