"""Step ``shrink``: a smaller student of a model."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from sottovoce.pruning.step import Amount, PruneHeads, PruneLayers, PruneWidth
from sottovoce.recipe.step import Step


class Shrink(Step):
    """Make a smaller student of a model, to be distilled: fewer layers, then narrower ones.

    In a recipe it stands for the steps ``prune_layers``, ``prune_heads`` and ``prune_width``.
    """

    layers: Amount | None = None
    """Number of layers that stay in each part, or a share of them."""
    heads: Amount | None = None
    """Number of attention heads that stay in each layer, or a share of them."""
    width: Amount | None = None
    """Number of hidden units that stay in each feed-forward layer, or a share of them."""
    choice: Literal["divergence", "even"] = "divergence"
    """Way to choose the layers, as in ``prune_layers``."""

    @model_validator(mode="after")
    def _shrinks(self) -> Shrink:
        if self.layers is None and self.heads is None and self.width is None:
            problem = "say what to make smaller: layers, heads or width, such as layers: 0.5"
            raise PydanticCustomError("fit", "{problem}", {"problem": problem})
        return self

    def expand(self) -> tuple[Step, ...]:
        """Return the steps that prune."""
        steps: list[Step] = []
        if self.layers is not None:
            steps.append(PruneLayers(keep=self.layers, choice=self.choice))
        if self.heads is not None:
            steps.append(PruneHeads(keep=self.heads))
        if self.width is not None:
            steps.append(PruneWidth(keep=self.width))
        return tuple(steps)
