"""Choices for whole parts of a model: how much of each stays when a step prunes it.

A step that prunes is declared here once, by its parts and by its form in a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.errors import UsageError
from sottovoce.recipe.scheme import WIDTHS
from sottovoce.recipe_search.casting import CAST
from sottovoce.recipe_search.sensitivity import Divergence
from sottovoce.text.plain_text import shortened

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture
    from sottovoce.recipe_search.units import Layer

WHOLE = "all"
"""Name of the state of a part that stays as it is."""
REMOVED = "removed"
"""Name of the state of a layer that is removed, and of what is left to choose for all that is in it."""


@dataclass(frozen=True)
class Structure:
    """A step that prunes parts of a model."""

    step: str
    """Name in recipes."""
    records: Callable[[Architecture], Sequence[Any]]
    """Function that returns the family's records of parts that the step may prune."""
    shares: tuple[float, ...]
    """Shares that may stay."""
    setting: Callable[[float], Any] = lambda share: share
    """Function that returns the recipe's setting for a part of which a share stays."""
    by_layer: bool = False
    """If true, each layer of a part is a choice of its own: it stays, or it is removed."""

    def parts(self, architecture: Architecture, named: Sequence[str] = ()) -> list[str]:
        """Return the parts that were named, or else those that the step prunes by default.

        Raises:
            UsageError: The family has no such part, or none at all.
        """
        records = self.records(architecture)
        every = list(dict.fromkeys(record.part for record in records))
        if unknown := [part for part in named if part not in every]:
            others = f"it has: {', '.join(every)}" if every else "it has none"
            name = shortened(repr(unknown[0]), 60)
            raise UsageError(f"{architecture.name} has no part {name} that {self.step} could prune; {others}")
        chosen = list(named) or list(dict.fromkeys(record.part for record in records if record.pruned))
        if not chosen:
            raise UsageError(f"{architecture.name} has nothing that {self.step} could prune: leave the step out")
        return chosen

    def form(self, architecture: Architecture, shares: Mapping[str, float]) -> dict[str, Any]:
        """Return the step in the form of a recipe file.

        Args:
            architecture: The family.
            shares: By part, the share that stays; others stay as they are. By layer, if each is a choice of its own.
        """
        if self.by_layer:
            return {"step": self.step, "layers": list(shares)}
        parts = dict.fromkeys(
            record.part for record in self.records(architecture) if record.pruned or record.part in shares
        )
        return {"step": self.step, **{part: self.setting(shares[part]) if part in shares else False for part in parts}}


STRUCTURES: Mapping[str, Structure] = {
    structure.step: structure
    for structure in (
        Structure("prune_layers", lambda family: family.shape.depths, (0.0,), by_layer=True),
        Structure("prune_experts", lambda family: family.experts, (0.75, 0.5), lambda share: {"keep": share}),
        Structure("prune_heads", lambda family: family.shape.heads, (0.75, 0.5)),
        Structure("prune_width", lambda family: family.shape.widths, (0.75, 0.5)),
    )
}
"""Steps that prune, by name, in the order in which a recipe applies them."""
QUANTIZE = "quantize"
STEPS = (QUANTIZE, *STRUCTURES, CAST)
"""Steps that a search knows."""


def parse_steps(steps: Sequence[str] | str) -> dict[str, tuple[str, ...]]:
    """Read the steps that a recipe may have, such as ``quantize``, ``quantize=2,3,4,8`` or ``prune_layers=decoder``.

    Returns:
        By step, the parts that are named, or bits for ``quantize``; none if it prunes those of its default.

    Raises:
        UsageError: There is no such step in a search, or none at all, or a part of a step that has none.
    """
    if isinstance(steps, str):
        steps = split_steps(steps)
    if not isinstance(steps, Iterable) or (other := [step for step in steps if not isinstance(step, str)]):
        wrong = other[0] if isinstance(steps, Iterable) else steps
        raise UsageError(f"steps: give names of steps, not {type(wrong).__name__}; they are: {', '.join(STEPS)}")
    named: dict[str, tuple[str, ...]] = {}
    for text in steps:
        step, equals, part = (piece.strip() for piece in text.partition("="))
        if step not in STEPS:
            raise UsageError(
                f"{shortened(repr(step), 60)} is not a step of a search; the steps are: {', '.join(STEPS)}"
            )
        if equals and step == QUANTIZE:
            named[step] = (*named.get(step, ()), *map(_width, part.split(",")))
            continue
        if equals and step == CAST:
            raise UsageError(f"{shortened(repr(text), 60)}: cast has no parts; write cast")
        if equals and not part:
            raise UsageError(f"{shortened(repr(text), 60)} names no part; write prune_width or prune_width=PART")
        named[step] = (*named.get(step, ()), *([part] if part else []))
    if list(named) == [CAST]:
        raise UsageError("cast alone leaves nothing to choose: add quantize, or a step that prunes")
    if not named:
        raise UsageError(f"a search needs steps; they are: {', '.join(STEPS)}")
    return named


def split_steps(text: str) -> tuple[str, ...]:
    """Return the steps of a text with commas between them, some of which stand between the bits of one."""
    return tuple(part for piece in re.split(r",(?!\s*\d)", text) if (part := piece.strip()))


def _width(text: str) -> str:
    if (width := text.strip()) not in map(str, WIDTHS):
        raise UsageError(
            f"quantize has no width of {shortened(repr(width), 60)}: write quantize or, with the bits that weights may "
            "have, quantize=2,3,4,8"
        )
    return width


@dataclass(frozen=True)
class State:
    """A part of which a share stays."""

    step: str
    """Name of the step."""
    part: str
    """Name of the part, or of a layer that may be removed."""
    share: float | None
    """Share that stays: ``None`` for all, 0 for a layer that is removed."""
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
    if share is None:
        return WHOLE
    return f"keep {share:g}" if share else REMOVED


def steps_of(states: Iterable[State], architecture: Architecture) -> list[dict[str, Any]]:
    """Return the steps of a recipe that bring parts into their states, in the order of a recipe."""
    shares: dict[str, dict[str, float]] = {}
    for state in states:
        if state.share is not None:
            shares.setdefault(state.step, {})[state.part] = state.share
    return [structure.form(architecture, shares[name]) for name, structure in STRUCTURES.items() if name in shares]
