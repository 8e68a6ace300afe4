"""Choices for whole parts of a model: how much of each stays when a step prunes it.

A step that prunes is declared here once, by its parts and by its form in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """Function that returns the parts that the step prunes by default."""
    shares: tuple[float, ...]
    """Shares that may stay."""
    setting: Callable[[float], Any] = lambda share: share
    """Function that returns the recipe's setting for a part of which a share stays."""

    def form(self, architecture: Architecture, shares: Mapping[str, float]) -> dict[str, Any]:
        """Return the step in the form of a recipe file.

        Args:
            architecture: The family.
            shares: By part, the share that stays; others stay as they are.
        """
        parts = self.parts(architecture)
        return {"step": self.step, **{part: self.setting(shares[part]) if part in shares else False for part in parts}}


def _pruned(records: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(record.part for record in records if record.pruned))


STRUCTURES: Mapping[str, Structure] = {
    structure.step: structure
    for structure in (
        Structure("prune_experts", lambda family: _pruned(family.experts), (0.75, 0.5), lambda share: {"keep": share}),
        Structure("prune_heads", lambda family: _pruned(family.shape.heads), (0.75, 0.5)),
        Structure("prune_width", lambda family: _pruned(family.shape.widths), (0.75, 0.5)),
    )
}
"""Steps that prune, by name, in the order in which a recipe applies them."""


@dataclass(frozen=True)
class State:
    """A part of which a share stays."""

    step: str
    """Name of the step."""
    part: str
    """Name of the part."""
    share: float | None
    """Share that stays; ``None`` for all."""
    layers: Mapping[str, Layer]
    """Sizes of the layers then; a removed one is not here."""
    fixed_bytes: int
    """Bytes of all other tensors then."""
    divergence: Divergence
    """Divergence of the pruned model, with every layer float."""

    @property
    def group(self) -> str:
        """Step and part, such as ``prune_width encoder``."""
        return group_name(self.step, self.part)

    @property
    def name(self) -> str:
        """Share as it stands in tables."""
        return state_name(self.share)


def group_name(step: str, part: str) -> str:
    """Return the name of the choice for a part."""
    return f"{step} {part}"


def state_name(share: float | None) -> str:
    """Return the name of a share."""
    return WHOLE if share is None else f"keep {share:g}"


def steps_of(states: Iterable[State], architecture: Architecture) -> list[dict[str, Any]]:
    """Return the steps of a recipe that bring parts into their states, in the order of a recipe."""
    shares: dict[str, dict[str, float]] = {}
    for state in states:
        if state.share is not None:
            shares.setdefault(state.step, {})[state.part] = state.share
    return [structure.form(architecture, shares[name]) for name, structure in STRUCTURES.items() if name in shares]
