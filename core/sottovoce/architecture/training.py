"""Training of a family: its batches, its differentiable forward pass, and what a student takes from its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LOGITS = "logits"
"""Name of the term that compares the logits."""
UNLABELED = -100
"""Label of a position without one, as PyTorch's cross entropy has it."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """One quantity that a student matches of its teacher, and the distance between the two."""

    distance: str
    """Name of a distance of :mod:`sottovoce.training.distances`: ``kl``, ``earth_mover``, ``squared`` or
    ``absolute``."""
    of: str = ""
    """Name of the quantity: ``logits``, or one of ``TrainingOutputs.states``; by default the name of the match."""
    weight: float = 1.0
    """Weight in the loss, unless a recipe has another."""


@dataclass(kw_only=True)
class TrainingOutputs:
    """Outputs of one forward pass over a batch, in the form in which losses are computed."""

    logits: Tensor
    """Logits ``[positions, vocabulary]`` at all positions that are learned, one sample after another."""
    targets: Tensor | None = None
    """Labels ``[positions]``, ``-100`` where there is none; ``None`` if the samples have no labels."""
    counts: tuple[int, ...] = ()
    """Number of positions of each sample."""
    states: Mapping[str, Tensor] = field(default_factory=dict)
    """Other quantities by name ``[items, ...]``, without those of padding. A student has as many items as its
    teacher."""
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    """Losses that the family adds to that of the labels, by name ``[items]``, such as of the number of tokens."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The functions that train a model of a family, and what a student matches of its teacher."""

    collate: Callable[..., Mapping[str, Any]]
    """Function ``collate(model, samples)`` that returns one batch, as values by name: features, padded to one length,
    and labels where the samples have them. Tensors are moved to the model's device."""
    forward: Callable[..., TrainingOutputs]
    """Function ``forward(model, batch, reference)`` that runs a batch, so that gradients can be computed. ``reference``
    are the outputs of the teacher on the same samples, or ``None``: where a family finds out by itself how many tokens
    there are, the student takes the teacher's number."""
    matches: Mapping[str, Match] = field(default_factory=lambda: {LOGITS: Match(distance="kl")})
    """Quantities that a student matches of its teacher, by the name that recipes have for their weight."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Weights of the losses that the family adds to that of the labels, by name, unless a recipe has others."""
    spectrogram: Callable[..., Tensor] | None = None
    """Function ``spectrogram(model, batch)`` that returns a view ``[batch, time, ..., bins]`` of the features in a
    batch, for SpecAugment to mask in place."""
    freeze: Mapping[str, str] = field(default_factory=dict)
    """Patterns of the parameters that are not trained unless a recipe names them, each with the reason."""
    labels: str = ""
    """Name of what a sample needs for training on labels, as errors say it; empty if the family has no labels."""

    def __post_init__(self) -> None:
        """Refuse values of another type, which would be misread.

        Raises:
            TypeError: A value is not a function, or a match is not a ``Match``.
        """
        for name in ("collate", "forward", "spectrogram"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise TypeError(f"Training.{name} takes a function, not {function!r}; see sottovoce.lazy")
        for match in self.matches.values():
            if not isinstance(match, Match):
                raise TypeError(f"Training.matches takes Match(distance=...), not {match!r}")
