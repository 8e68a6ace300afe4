"""One sample on which a model is measured again and again, with other layers each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sottovoce.calibration.reference import DivergenceSums, Reference
from sottovoce.recipe_search.replay import Replay

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model


@dataclass(frozen=True)
class Probe:
    """One sample, the float model's outputs for it, and those of the blocks."""

    reference: Reference
    replay: Replay
    positions: dict[str, int]

    @classmethod
    def of(cls, model: Model, reference: Reference, blocks: Sequence[str]) -> Probe:
        """Record the blocks on the sample of a reference."""
        replay = Replay(model.module, blocks)
        with replay.recorded():
            positions = reference.sums(model).positions
        return cls(reference, replay, positions)

    def sums(self, model: Model, layer: str) -> DivergenceSums:
        """Return the divergence on the sample of the model as it is now; blocks before a layer do not run again."""
        with self.replay.replaced(self.replay.before(layer)):
            return self.reference.sums(model)


def put_(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the submodule ``name``, which stays as it is, for the time of a measurement."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
