"""Steps that prune and skip experts: ``prune_experts`` and ``skip_experts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, LiteralString

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.experts import description
from sottovoce.recipe.step import Pattern, Step
from sottovoce.report import Figure, StepReport, Table
from sottovoce.text.translations import Text

_AMOUNT: LiteralString = "must be a whole number of experts, or a share of them between 0 and 1"


def _amount(value: Any) -> Any:
    """A number of experts or a share of them; ``1.0`` could be meant as either, and is refused."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if whole or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError("amount", _AMOUNT)


Amount = Annotated[int | float, BeforeValidator(_amount)]
Protection = Mapping[Pattern, Annotated[float, Field(gt=0, le=1)]]
SaliencyMetric = Literal["reap", "mean-norm", "ean", "frequency"]


Threshold = Annotated[float, Field(gt=0, le=1)]


class PartBudget(BaseModel):
    """What is different for the experts of one part of the model; what is unset is as the step says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: Amount | None = None
    threshold: Threshold | None = None
    saliency: SaliencyMetric | None = None
    protect: Protection | None = None
    merge: bool | None = None


class PruneExperts(Step):
    """Leave out the experts that matter least, as many in every layer of a part; routing stays top-k.

    In a recipe file any other key is a part of the model with a budget of its own, such as ``talker: {keep: 0.75}``,
    or ``talker: false`` for a part that stays as it is.
    """

    by_block: ClassVar[bool] = True
    effect: ClassVar[Text | None] = Text(en="removed", zh="已移除")

    keep: Amount | None = None
    """How many experts of a layer stay: a whole number, or a share of them between 0 and 1. By default half of them."""
    threshold: Threshold | None = None
    """In place of ``keep``: experts go that are chosen for fewer tokens than this share of their layer's mean.

    As many stay in every layer of a part: as the layer needs that has the most experts over the threshold.
    """
    saliency: SaliencyMetric = "reap"
    """What counts: ``reap`` the mean of gate times output norm, ``mean-norm`` of the output norm alone, ``ean`` the sum
    of the output norms, ``frequency`` the tokens."""
    protect: Protection | None = None
    """By modality, the share of all experts that stays for its sake, by what they are to its tokens alone.

    By default the architecture's.
    """
    super_experts: bool = True
    """Whether experts with outlying activations stay, whatever their saliency."""
    merge: bool = False
    """Whether an expert that goes is averaged into the one that stays and is nearest to it."""
    scores: Annotated[str, Field(min_length=1)] | None = None
    """A file of saliencies that were measured before; no samples are needed then."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the samples that nothing is chosen by, and on which the damage is measured."""
    parts: Mapping[Pattern, PartBudget | None] = {}
    """Budgets of single parts; ``None`` leaves a part as it is. In a recipe file they stand beside the other keys."""

    @model_validator(mode="before")
    @classmethod
    def _gather_parts(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        made = {key: value for key, value in fields.items() if key in cls.model_fields or not _is_budget(value)}
        parts = made.get("parts", {})
        if isinstance(parts, Mapping):
            flat = {key: value for key, value in fields.items() if key not in made}
            made["parts"] = {key: None if value is False else value for key, value in {**parts, **flat}.items()}
        if made.get("threshold") is None:
            made.setdefault("keep", 0.5)
        return made

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
        """Whether the step can only be applied with calibration samples."""
        return self.scores is None

    def summary(self, report: StepReport) -> Text:
        """Return how many experts stay."""
        return description.summarize_pruning(report)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return what was pruned, and by which saliency."""
        return ("pruned", "expert-pruning", self.saliency)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the experts that stay."""
        return description.tabulate_pruning(report)

    def figures(self, report: StepReport) -> tuple[Figure, ...]:
        """Return the curves of saliency."""
        return (description.SALIENCY,)

    def of_part(self, part: str) -> PruneExperts | None:
        """The step as it is for one part of the model, or ``None`` where that part stays as it is."""
        budget = self.parts.get(part, PartBudget())
        if budget is None:
            return None
        own = {key: value for key, value in budget if value is not None}
        if own.keys() & {"keep", "threshold"}:
            own = {"keep": None, "threshold": None} | own
        return self.model_copy(update=own | {"parts": {}})

    def to_dict(self) -> dict[str, Any]:
        """The form that a YAML recipe has; an empty ``protect`` is written, for it is not the default."""
        form = {"step": self.name, **self.model_dump(mode="json", exclude={"parts"}, exclude_none=True)}
        budgets = {
            part: False if budget is None else budget.model_dump(mode="json", exclude_none=True)
            for part, budget in self.parts.items()
        }
        return form | budgets


def _is_budget(value: Any) -> bool:
    return value is None or value is False or isinstance(value, Mapping)


class SkipExperts(Step):
    """Have experts not run, token by token, where the router gives them a small gate next to the token's largest.

    The weights stay as they are: two settings go into the configuration, beside the number of experts. Sottovoce heeds
    them when it loads the model; other libraries ignore them and run every expert that a token is routed to, which is
    the model as it would be without this step.
    """

    by_block: ClassVar[bool] = True

    threshold: Annotated[float, Field(gt=0, lt=1)]
    """Share of the token's largest gate; an expert whose gate is under it does not run."""
    renormalize: bool = False
    """Whether the gates that are left are raised to the sum of all, so that the experts keep their weight together.

    On the bundled mixture the outputs were nearer without at every threshold."""
    parts: Annotated[tuple[Pattern, ...], Field(min_length=1)] | None = None
    """The parts of the model whose experts may be skipped; by default those that are pruned by default."""

    def summary(self, report: StepReport) -> Text:
        """Return when an expert is skipped."""
        return description.summarize_skipping(self)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the step's name."""
        return ("skip-experts",)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the expert runs that are saved."""
        return description.tabulate_skipping(report)
