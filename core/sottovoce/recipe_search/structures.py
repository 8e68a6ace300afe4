"""Choices for whole parts of a model: how much of each stays when a step prunes it.

A step that prunes is declared here once, by its parts and by its form in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sottovoce.recipe_search.sensitivity import Divergence

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.recipe_search.units import Layer

WHOLE = "all"
"""Name of the state of a part that stays as it is."""


@dataclass(frozen=True)
class Structure:
    """A step that prunes parts of a model."""

    step: str
    """Name in recipes."""
    parts: Callable[[Architecture], Sequence[str]]
    """Returns the parts that the step prunes by default."""
    shares: tuple[float, ...]
    """Shares that may stay, the largest first."""
    whole: Any = None
    """Setting of a part that stays as it is; ``None`` leaves it out of the recipe."""
    setting: Callable[[float], Any] = lambda share: share
    """Returns the setting of a part of which a share stays."""

    def form(self, architecture: Architecture, shares: Mapping[str, float]) -> dict[str, Any]:
        """Return the step in the form of a recipe file.

        Args:
            architecture: The family.
            shares: By part, the share that stays; others stay whole.
        """
        settings = {part: self.setting(shares[part]) if part in shares else self.whole for part in self.names(architecture)}
        return {"step": self.step, **{part: value for part, value in settings.items() if value is not None}}

    def names(self, architecture: Architecture) -> list[str]:
        """Return the parts by name."""
        return list(self.parts(architecture))


def _pruned(records: Sequence[Any]) -> list[str]:
    return [record.part for record in records if record.pruned]


STRUCTURES: Mapping[str, Structure] = {
    structure.step: structure
    for structure in (
        Structure("prune_width", lambda family: _pruned(family.shape.widths), (0.75, 0.5)),
        Structure(
            "prune_experts",
            lambda family: [layout.part for layout in family.experts],
            (0.75, 0.5),
            whole=False,
            setting=lambda share: {"keep": share},
        ),
    )
}
"""Steps that prune, by name, in the order in which a recipe applies them."""


@dataclass(frozen=True)
class State:
    """A part of which a share stays."""

    group: str
    """The step and the part, such as ``prune_width encoder``."""
    share: float | None
    """Share that stays; ``None`` for all."""
    layers: Mapping[str, Layer]
    """Sizes of the layers then; a removed one is not here."""
    fixed_bytes: int
    """Bytes of all other tensors then."""
    divergence: Divergence
    """Divergence of the pruned model, with every layer float."""
    step: str = field(default="", compare=False)
    part: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """Share as it stands in tables."""
        return WHOLE if self.share is None else f"{self.share:g}"
