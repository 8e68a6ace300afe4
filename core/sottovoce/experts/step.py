"""Steps that prune and skip experts: ``prune_experts`` and ``skip_experts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, LiteralString

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.experts import description
from sottovoce.recipe.pattern import Pattern
from sottovoce.recipe.step import Step
from sottovoce.report import Figure, StepReport, Table
from sottovoce.text.translations import Text

_AMOUNT: LiteralString = "must be a whole number of experts, or a share of them between 0 and 1"


def _amount(value: Any) -> Any:
    """Check a number of experts or a share of them; ``1.0`` could be either, and is refused."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if whole or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError("amount", _AMOUNT)


Amount = Annotated[int | float, BeforeValidator(_amount)]
Protection = Mapping[Pattern, Annotated[float, Field(gt=0, le=1)]]
SaliencyMetric = Literal["reap", "mean-norm", "ean", "frequency"]


Threshold = Annotated[float, Field(gt=0, le=1)]


class PartBudget(BaseModel):
    """Settings for the experts of one part of the model; unset ones are those of the step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: Amount | None = None
    threshold: Threshold | None = None
    saliency: SaliencyMetric | None = None
    protect: Protection | None = None
    merge: bool | None = None


class PruneExperts(Step):
    """Remove the least salient experts, as many in every layer of a part; routing stays top-k.

    In a recipe file any other key is a part of the model with its own budget, such as ``talker: {keep: 0.75}``, or
    ``talker: false`` for a part that stays as it is.
    """

    by_block: ClassVar[bool] = True
    effect: ClassVar[Text | None] = Text(en="removed", zh="已移除")

    keep: Amount | None = None
    """Number of experts of a layer that stay, or a share of them between 0 and 1. By default half of them."""
    threshold: Threshold | None = None
    """In place of ``keep``: least number of tokens of an expert that stays, as a share of its layer's mean.

    In every layer of a part as many experts stay as in the layer that has the most above the threshold.
    """
    saliency: SaliencyMetric = "reap"
    """Measure of importance: ``reap`` the mean of gate times output norm, ``mean-norm`` of the output norm alone,
    ``ean`` the sum of the output norms, ``frequency`` the number of tokens."""
    protect: Protection | None = None
    """By modality, the share of all experts that stays because of their saliency for its tokens alone.

    By default the architecture's.
    """
    super_experts: bool = True
    """If true, experts with outlier activations stay, whatever their saliency."""
    merge: bool = False
    """If true, every removed expert is averaged into the most similar one that stays."""
    scores: Annotated[str, Field(min_length=1)] | None = None
    """File of saliencies that were measured before, which replaces samples."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the samples that is not used for the choice, and on which the change of the output is measured."""
    parts: Mapping[Pattern, PartBudget | None] = {}
    """Budgets of single parts; ``None`` leaves a part as it is. In a recipe file they are keys of the step."""

    @model_validator(mode="before")
    @classmethod
    def _gather_parts(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        known = {key: value for key, value in fields.items() if key in cls.model_fields or not _is_budget(value)}
        parts = known.get("parts", {})
        if isinstance(parts, Mapping):
            flat = {key: value for key, value in fields.items() if key not in known}
            known["parts"] = {key: None if value is False else value for key, value in {**parts, **flat}.items()}
        if known.get("threshold") is None:
            known.setdefault("keep", 0.5)
        return known

    @model_validator(mode="after")
    def _name_parts_apart(self) -> PruneExperts:
        if taken := sorted({"step", *type(self).model_fields} & set(self.parts)):
            problem = f"a part cannot be called {taken[0]!r}: the step has a setting of that name"
            raise PydanticCustomError("fit", "{problem}", {"problem": problem})
        if self.keep is None and self.threshold is None:
            raise PydanticCustomError("fit", "{problem}", {"problem": f"keep: {_AMOUNT}, not None"})
        budgets: dict[str, PruneExperts | PartBudget] = {"": self}
        budgets |= {f"{part}: ": budget for part, budget in self.parts.items() if budget is not None}
        for part, budget in budgets.items():
            if budget.keep is not None and budget.threshold is not None:
                problem = f"{part}keep and threshold both say how many experts stay; give one of them"
                raise PydanticCustomError("fit", "{problem}", {"problem": problem})
        return self

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return self.scores is None

    def summary(self, report: StepReport) -> Text:
        """Return the number of experts that stay."""
        return description.summarize_pruning(report)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return tags for expert pruning and its measure of saliency."""
        return ("pruned", "expert-pruning", self.saliency)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the table of the experts that stay."""
        return description.tabulate_pruning(report)

    def figures(self, report: StepReport) -> tuple[Figure, ...]:
        """Return the curves of saliency."""
        return (description.SALIENCY,)

    def of_part(self, part: str) -> PruneExperts | None:
        """Return the step for one part of the model, or ``None`` if that part stays as it is."""
        budget = self.parts.get(part, PartBudget())
        if budget is None:
            return None
        settings = {key: value for key, value in budget if value is not None}
        if settings.keys() & {"keep", "threshold"}:
            settings = {"keep": None, "threshold": None} | settings
        return self.model_copy(update=settings | {"parts": {}})

    def to_dict(self) -> dict[str, Any]:
        """Return the form of a YAML recipe; an empty ``protect`` is written, because it is not the default."""
        form = {"step": self.name, **self.model_dump(mode="json", exclude={"parts"}, exclude_none=True)}
        budgets = {
            part: False if budget is None else budget.model_dump(mode="json", exclude_none=True)
            for part, budget in self.parts.items()
        }
        return form | budgets


def _is_budget(value: Any) -> bool:
    return value is None or value is False or isinstance(value, Mapping)


class SkipExperts(Step):
    """Skip experts at run time, token by token, if their gate is small compared with the token's largest.

    The weights stay as they are: two settings are added to the configuration, next to the number of experts. Sottovoce
    honors them when it loads the model; other libraries ignore them and run every expert that a token is routed to,
    which is the model without this step.
    """

    by_block: ClassVar[bool] = True

    threshold: Annotated[float, Field(gt=0, lt=1)]
    """Share of the token's largest gate below which an expert does not run."""
    renormalize: bool = False
    """If true, the remaining gates are scaled to the sum of all.

    On the bundled mixture the outputs were closer without this at every threshold."""
    parts: Annotated[tuple[Pattern, ...], Field(min_length=1)] | None = None
    """Parts of the model whose experts may be skipped; by default those that are pruned by default."""

    def summary(self, report: StepReport) -> Text:
        """Return the condition under which an expert is skipped."""
        return description.summarize_skipping(self.threshold)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the step's name."""
        return ("skip-experts",)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the table of the expert runs that are saved."""
        return description.tabulate_skipping(report)
