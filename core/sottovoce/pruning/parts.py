"""Amounts that a recipe keeps of the parts of a model, and the settings that tell the model's own class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sottovoce.errors import CoverageError, PluginError, RecipeError
from sottovoce.recipe.pattern import matches

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.pruning.step import ByPart

MULTIPLES = (64, 32, 16, 8, 4, 2)
"""Numbers of units that kernels and groups of 4-bit weights divide best, the largest first."""
_LEAST_MULTIPLES = 16
"""Multiples of that number that a layer must have, so that a share is kept nearly as it was asked for."""


class Part(Protocol):
    """A record of :class:`~sottovoce.Shape`."""

    @property
    def part(self) -> str:
        """Name in recipes."""

    @property
    def pruned(self) -> bool:
        """True if it is pruned by default."""


PartType = TypeVar("PartType", bound=Part)


def parts_to_prune(
    parts: Sequence[PartType], step: ByPart, name: str, family: str
) -> list[tuple[PartType, int | float]]:
    """Return the parts that a step prunes, with the amount that stays.

    Raises:
        RecipeError: The family has nothing that the step can prune, or no part of a name.
    """
    names = [part.part for part in parts]
    if not names:
        raise RecipeError(f"{name}: {family} states nothing that this step can prune; leave the step out")
    if unknown := [part for part in step.parts if part not in names]:
        raise RecipeError(f"{name}: {family} has no part {unknown[0]!r}; its parts are: {', '.join(names)}")
    amounts = [(part, step.amount_of(part.part, part.pruned)) for part in parts]
    return [(part, amount) for part, amount in amounts if amount is not None]


def kept_number(amount: int | float, count: int, what: str, *, is_rounded: bool = False) -> int:
    """Return how many of ``count`` stay.

    Args:
        amount: A whole number, or a share of all.
        count: How many there are.
        what: What is counted, for errors.
        is_rounded: If true, a share is rounded to a number that kernels like.

    Raises:
        RecipeError: None would stay, or more than there are.
    """
    if isinstance(amount, float):
        steps = (multiple for multiple in MULTIPLES if multiple * _LEAST_MULTIPLES <= count and not count % multiple)
        multiple = next(steps, 1) if is_rounded else 1
        amount = max(multiple, round(amount * count / multiple) * multiple)
    if amount > count:
        raise RecipeError(f"{what}: {amount} are to stay, and there are {count}; keep fewer, or leave the part out")
    return amount


def float_linear(module: nn.Module, name: str) -> nn.Linear:
    """Return a linear layer whose weight can be changed.

    Raises:
        CoverageError: It is quantized already.
        PluginError: There is none of that name.
    """
    from torch import nn

    try:
        layer = module.get_submodule(name)
    except AttributeError:
        raise PluginError(f"there is no layer {name!r}, which the family's shape names") from None
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
        raise CoverageError(
            f"{name!r} is of the class {type(layer).__name__}, not a float linear layer; is the model quantized? prune "
            "before quantizing, from the float model"
        )
    return layer


def modules_of(module: nn.Module, pattern: str) -> list[str]:
    """Return the names of the modules that a pattern matches."""
    return [name for name, child in module.named_modules() if matches(name, type(child).__name__, pattern)]


def scale_settings_(model: Model, keys: Iterable[str], before: int, after: int) -> None:
    """Change numbers of the configuration, by which the model's own class builds its layers, by one factor.

    Raises:
        PluginError: The configuration has no such setting, or one that the factor does not divide.
    """
    for key in keys:
        value = setting(model, key)
        if not isinstance(value, int) or value * after % before:
            raise PluginError(
                f"{model.architecture.name}: {key} is {value}, which cannot be multiplied by {after}/{before}"
            )
        set_setting_(model, key, value * after // before)


def setting(model: Model, key: str) -> Any:
    """Return a setting of the model's configuration.

    Raises:
        PluginError: The configuration has no such setting.
    """
    *path, last = key.split(".")
    section = _section(model, path)
    present = last in section if isinstance(section, Mapping) else hasattr(section, last)
    if not present:
        raise PluginError(
            f"{model.architecture.name}: the configuration has no {key!r}, which its shape names; correct the plugin"
        )
    return section[last] if isinstance(section, Mapping) else getattr(section, last)


def set_setting_(model: Model, key: str, value: Any) -> None:
    """Set a setting of the model's configuration, and record it for the plugin's writer."""
    model.settings[key] = value
    *path, last = key.split(".")
    section = _section(model, path)
    before = setting(model, key)
    if isinstance(before, list) and isinstance(value, list):
        # A module may hold the same list.
        before[:] = value
    elif isinstance(section, dict):
        section[last] = value
    else:
        setattr(section, last, value)


def _section(model: Model, path: Sequence[str]) -> Any:
    configuration = model.architecture.configuration
    section = configuration(model) if configuration is not None else getattr(model.native, "config", None)
    for name in path:
        section = section.get(name) if isinstance(section, Mapping) else getattr(section, name, None)
    return section
