"""The step ``prune_weights``: single weights become zero."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.pruning import weights_description
from sottovoce.recipe.pattern import Pattern
from sottovoce.recipe.step import Step
from sottovoce.report import StepReport, Table
from sottovoce.text.translations import Text


class PruneWeights(Step):
    """Set single weights to zero; alone, this saves neither bytes nor time on CPUs.

    What is zero already stays zero and counts, so steps with rising ``sparsity`` may follow one another. Symmetric
    rounding to nearest keeps zeros; other methods of ``quantize`` may move them.
    """

    by_block: ClassVar[bool] = True
    effect: ClassVar[Text | None] = Text(en="set to zero", zh="已置零")

    method: Literal["magnitude", "wanda", "sparsegpt"] = "sparsegpt"
    """``sparsegpt`` makes up for zeros by the other weights; ``wanda`` chooses by a weight's size times the norm of its
    input; ``magnitude`` by its size alone, without samples."""
    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of zeros in each layer, with ``wanda`` in each row; by default 0.5."""
    pattern: Literal["2:4"] | None = None
    """``2:4``: of each four adjacent inputs two are zero, a form that some GPUs are faster with."""
    damp: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the mean second moment that is added to all of them, for ``sparsegpt``."""
    targets: tuple[Pattern, ...] | None = None
    """Patterns of the linear layers; by default the layers that ``quantize`` takes."""
    ignore: tuple[Pattern, ...] = ()
    """Patterns to leave out, beside the architecture's."""

    @model_validator(mode="after")
    def _one_amount(self) -> PruneWeights:
        if self.sparsity is not None and self.pattern is not None:
            problem = "the pattern 2:4 is a sparsity of half; give sparsity or pattern, not both"
            raise PydanticCustomError("fit", "{problem}", {"problem": problem})
        return self

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return self.method != "magnitude"

    @property
    def share(self) -> float | None:
        """Share of zeros; ``None`` with a pattern."""
        return None if self.pattern else 0.5 if self.sparsity is None else self.sparsity

    def summary(self, report: StepReport) -> Text:
        """Return how many weights are zero, and that this alone saves nothing on CPUs."""
        return weights_description.summarize(report, self.method, self.pattern)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the kind of sparsity and the method."""
        kind = "2-4-sparsity" if self.pattern else "unstructured-pruning"
        return ("pruned", "sparse", kind, self.method)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the sizes, dense and compressed."""
        return weights_description.tabulate(report)
