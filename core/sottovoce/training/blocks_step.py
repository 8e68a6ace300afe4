"""Step ``distill_blocks``: each block learns from itself as it was before the steps ahead changed it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sottovoce.recipe.pattern import Pattern
from sottovoce.recipe.step import Step
from sottovoce.report import StepReport, Table
from sottovoce.text.translations import Text
from sottovoce.training import blocks_description


class DistillBlocks(Step):
    """Train each block to give the outputs that it gave before the steps ahead changed it, one block after another.

    It shares one pass with the steps before and after it, and needs no more memory than they do: so a model that is
    larger than memory is distilled too. No labels are needed. The calibration samples are what is trained on.
    """

    by_block: ClassVar[bool] = True

    updates: Annotated[int, Field(ge=1)] = 60
    """Updates of the weights of each block."""
    batch: Annotated[int, Field(ge=1)] = 8
    """Samples of one update."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Highest learning rate of AdamW; it falls to 0 by a cosine."""
    targets: tuple[Pattern, ...] | None = None
    """Patterns of the layers to train; by default all targets of the family that are in blocks."""
    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """Share of the samples that is not trained on, and which decides whether a block keeps what it learned."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the order of the samples."""

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return True

    def summary(self, report: StepReport) -> Text:
        """Return how much nearer the blocks came."""
        return blocks_description.summarize(report)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the tag for distillation."""
        return ("distillation",)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the error of every block before and after."""
        return blocks_description.tabulate(report)
