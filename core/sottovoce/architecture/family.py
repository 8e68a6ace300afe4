"""A model family, described once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sottovoce.architecture.card import CardFacts
from sottovoce.architecture.experts import ExpertLayout
from sottovoce.architecture.fields import check_tuple
from sottovoce.architecture.layers import Layers
from sottovoce.architecture.runner import Runner
from sottovoce.architecture.shape import Shape
from sottovoce.architecture.training import Training
from sottovoce.recipe.pattern import matches


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model family, described once."""

    name: str
    """Name of the family, unique among the installed plugins."""
    matches: tuple[str, ...]
    """Model class names, as in ``config.json`` or ``config.yaml``."""
    layers: Layers
    """Layers to compress and to keep."""
    runner: Runner
    """Functions that run a model."""
    experts: tuple[ExpertLayout, ...] = ()
    """Places of the experts of a mixture. Experts are linear layers, one set per expert, so ``Layers.targets`` may name
    them: ``...experts.<number>.gate_proj``, ``up_proj`` and ``down_proj``."""
    shape: Shape = Shape()
    """Structure that may be pruned."""
    training: Training | None = None
    """Functions that train a model; ``None`` for a family that is not trained here."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Names of the model's parts, each with a pattern of parameter names, for reports."""
    task: str = ""
    """Name of the task. Core has metrics for ``transcription`` and ``conversation``; a plugin may add its own."""
    inputs: tuple[str, ...] = ("audio",)
    """Fields that a sample must have for this family: ``audio``, ``text`` or ``messages``."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recipes of the family, by name, in the form that a YAML recipe has."""
    card: CardFacts = CardFacts()
    """Facts for the model card."""

    configuration: Callable[..., Any] | None = None
    """Function ``configuration(model)`` that returns the configuration by which the model's own class builds its
    layers, an object or nested dictionaries; by default ``model.native.config``."""
    processor: Callable[[Path], Any] | None = None
    """Function that loads the processor of a transformers model from a directory, where ``AutoProcessor`` fails."""
    resolve: Callable[..., Any] | None = None
    """Function ``resolve(name, options)`` that turns a name that is not a directory (a library's alias) into a
    :class:`~sottovoce.Repository`; ``None`` for names of other families."""

    def __post_init__(self) -> None:
        """Refuse values of another type, which would be misread.

        Raises:
            TypeError: A record is not of its class, or a string is given in place of a tuple.
        """
        records: dict[str, type] = {"layers": Layers, "runner": Runner, "card": CardFacts, "shape": Shape}
        for name, record in records.items():
            if not isinstance(getattr(self, name), record):
                raise TypeError(f"Architecture.{name} takes sottovoce.{record.__name__}, not {getattr(self, name)!r}")
        if self.training is not None and not isinstance(self.training, Training):
            raise TypeError(f"Architecture.training takes sottovoce.Training, not {self.training!r}")
        for name in ("matches", "inputs"):
            check_tuple(f"Architecture.{name}", getattr(self, name))

    def __repr__(self) -> str:
        """Return the name: all that a family states would fill a notebook."""
        return f"<Architecture {self.name}>"

    def part_of(self, name: str) -> str:
        """Return the part that the parameter or module ``name`` belongs to, or ``other``."""
        return next((part for part, pattern in self.parts.items() if matches(name, "", pattern)), "other")
