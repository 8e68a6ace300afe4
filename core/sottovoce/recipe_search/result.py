"""Result of a search: the recipe, what it promises, and all that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sottovoce.recipe.recipe import Recipe
from sottovoce.report import number_format
from sottovoce.text.plain_text import one_line


@dataclass(frozen=True)
class Point:
    """A recipe by its size and divergence."""

    name: str
    size_bytes: int
    """Bytes of the weights on disk."""
    divergence: float
    """Sum of the divergences of its choices, in nats per token: it ranks recipes, and promises nothing."""
    expected: float | None = None
    """Divergence that a trial would measure: the sum by the ratios of trials that were made, of layers and of parts."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The recipe that loses least within a budget."""

    recipe: Recipe
    model: str
    """Name of the model."""
    size_bytes: Mapping[str, int]
    """Bytes of the weights on disk: ``before``, ``after``, and ``least`` of what can be chosen."""
    divergence: Mapping[str, float]
    """Divergence from the float model in nats per token, by kind of sample: measured on samples that the recipe was not
    calibrated on."""
    interval: tuple[float, float]
    """Bounds within which nine tenths of such measurements lie, by drawing the samples again."""
    predicted: float
    """Sum of the divergences of the choices, each alone."""
    latency: Mapping[str, float] | None = None
    """Seconds for a sample if the budget limits time: ``before`` and ``after`` by the table of measured layers, and
    ``measured`` of the compressed model itself, which the table may miss."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Choice by layer, group of layers, or part."""
    sensitivity: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Divergence of every choice alone, by the same names: ``nats`` by kind of sample, and whether it is measured."""
    front: Sequence[Point] = ()
    """Best recipes of other sizes, from the same measurements."""
    uniform: Sequence[Point] = ()
    """Recipes with one choice for all layers, to compare with."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Values of the limited metrics."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of the parts of the search."""
    notes: Sequence[str] = ()

    def __repr__(self) -> str:
        """Return what identifies the result, on one line."""
        before, after = (number_format.size(self.size_bytes[name]) for name in ("before", "after"))
        steps = ", ".join(step.name for step in self.recipe.steps)
        return one_line(f"<SearchResult for {self.model}: {steps}, {before} -> {after}>")

    def to_dict(self) -> dict[str, Any]:
        """Return the form of JSON."""
        form = {name: value for name, value in vars(self).items() if name not in ("recipe", "front", "uniform")}
        points = {name: [asdict(point) for point in getattr(self, name)] for name in ("front", "uniform")}
        return {"recipe": self.recipe.to_dict(), **form, **points}
