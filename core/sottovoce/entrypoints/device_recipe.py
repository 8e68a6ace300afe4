"""Choice of a preset by the kind of machine that a model is to run on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.errors import UsageError
from sottovoce.recipe.presets import can_be_a_student, can_be_narrowed

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture


@dataclass(frozen=True)
class DeviceRecipe:
    """A preset, and the reason why it was chosen."""

    recipe: str
    reason: str


def recipe_for(device: str, architecture: Architecture) -> DeviceRecipe:
    """Choose the preset for a kind of device.

    Args:
        device: ``cpu``, ``gpu``, ``mobile``, ``edge`` or ``cloud``.
        architecture: The model's family.

    Raises:
        UsageError: There is no such kind.
    """
    if device not in _CHOICES:
        raise UsageError(f"there is no kind of device {device!r}; the kinds are: {', '.join(_CHOICES)}")
    return _CHOICES[device](architecture)


def devices() -> tuple[str, ...]:
    """Return the kinds of devices that a preset can be chosen for."""
    return tuple(_CHOICES)


def _cpu(architecture: Architecture) -> DeviceRecipe:
    if architecture.experts:
        return DeviceRecipe("int4", "a mixture of experts is bound by memory, and 4 bits take the least of it")
    return DeviceRecipe("int8", "CPUs multiply 8-bit integers fastest, and the accuracy stays nearly the same")


def _gpu(architecture: Architecture) -> DeviceRecipe:
    if architecture.experts:
        return DeviceRecipe("int4", "a mixture of experts fits a GPU when its experts have 4 bits")
    return DeviceRecipe("int8-weight", "weights of 8 bits halve the memory, and every GPU runs them")


def _mobile(architecture: Architecture) -> DeviceRecipe:
    return _pruned(architecture, "mobile", "a quarter of the hidden units less, and ranges of inputs that are fixed")


def _edge(architecture: Architecture) -> DeviceRecipe:
    return _pruned(architecture, "edge", "half of the hidden units, and 8 bits for what stays")


def _pruned(architecture: Architecture, recipe: str, reason: str) -> DeviceRecipe:
    if can_be_narrowed(architecture):
        return DeviceRecipe(recipe, reason)
    return DeviceRecipe("int8", f"{architecture.name} has no hidden units that may be pruned, so it is only quantized")


def _cloud(architecture: Architecture) -> DeviceRecipe:
    if architecture.experts:
        return DeviceRecipe("three-stage", "fewer experts, distilled from all of them, in 4 bits")
    if can_be_a_student(architecture):
        return DeviceRecipe("cloud", "a student with half of the layers and of their width, distilled from the model")
    return DeviceRecipe("int8-weight", f"{architecture.name} states no smaller student, so it is only quantized")


_CHOICES: dict[str, Callable[[Architecture], DeviceRecipe]] = {
    "cpu": _cpu,
    "gpu": _gpu,
    "mobile": _mobile,
    "edge": _edge,
    "cloud": _cloud,
}
