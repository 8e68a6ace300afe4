"""Steps that prune: ``prune_width``, ``prune_heads``, ``prune_layers`` and ``prune_weights``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, LiteralString

from pydantic import BaseModel, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.pruning import description
from sottovoce.recipe.pattern import Pattern
from sottovoce.recipe.step import Step
from sottovoce.report import StepReport, Table
from sottovoce.text.translations import Text

_AMOUNT: LiteralString = "must be a whole number from 1, or a share between 0 and 1"
_REMOVED = Text(en="removed", zh="已移除")


def _amount(value: Any) -> Any:
    """Check a number or a share; ``1.0`` could be either, and is refused."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if whole or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError("amount", _AMOUNT)


def _part_amount(value: Any) -> Any:
    return None if value is None or value is False else _amount(value)


Amount = Annotated[int | float, BeforeValidator(_amount)]
PartAmount = Annotated[int | float | None, BeforeValidator(_part_amount)]
HeldOut = Annotated[float, Field(ge=0, le=0.5)]


class ByPart(BaseModel):
    """An amount that stays, for every part of a model that a family names.

    In a recipe file any other key is a part with its own amount, such as ``decoder: 0.75``, or ``decoder: false`` for a
    part that stays as it is.
    """

    name: ClassVar[str] = ""
    keep: Amount | None = None
    """Number that stays in each layer, or a share of it between 0 and 1. By default half, in all parts that the family
    prunes by default."""
    parts: Mapping[Annotated[str, Field(min_length=1)], PartAmount] = {}
    """Amounts of single parts; ``None`` leaves a part as it is. In a recipe file they are keys of the step."""

    @model_validator(mode="before")
    @classmethod
    def _gather_parts(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        known = {key: value for key, value in fields.items() if key in cls.model_fields or not _is_part(value)}
        parts = known.get("parts", {})
        if isinstance(parts, Mapping):
            known["parts"] = {**parts, **{key: value for key, value in fields.items() if key not in known}}
        return known

    def to_dict(self) -> dict[str, Any]:
        """Return the form of a YAML recipe, with the parts as keys."""
        form = {"step": self.name, **self.model_dump(mode="json", exclude={"parts"}, exclude_none=True)}
        return form | {part: False if amount is None else amount for part, amount in self.parts.items()}

    def amount_of(self, part: str, by_default: bool) -> int | float | None:
        """Return the amount that stays in a part; ``None`` for one that stays as it is.

        Args:
            part: The part's name.
            by_default: If true, the family prunes it when a recipe does not name it.
        """
        if part in self.parts:
            return self.parts[part]
        if self.keep is not None:
            return self.keep if by_default else None
        return 0.5 if by_default and not self.parts else None


def _is_part(value: Any) -> bool:
    return value is False or (isinstance(value, int | float) and not isinstance(value, bool))


class PruneWidth(ByPart, Step):
    """Remove hidden units of feed-forward layers, and refit the layers that read them.

    All layers of a part keep as many units, so that the model's own library loads the result.
    """

    by_block: ClassVar[bool] = True
    effect: ClassVar[Text | None] = _REMOVED

    score: Literal["obs", "activation", "magnitude"] = "obs"
    """Order in which units are removed: ``obs`` by the error that the best refit leaves, ``activation`` by the size of
    what a unit adds to the output, ``magnitude`` by its weights alone."""
    refit: bool = True
    """If true, the remaining weights are fitted by least squares to the outputs before."""
    damp: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Share of the mean second moment that is added to all of them, against overfitting: at least this, and up to ten
    times as much where that errs less on held-out samples."""
    held_out: HeldOut = 0.2
    """Share of the samples that is not used for the fit, and on which its error is measured."""

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return self.refit or self.score != "magnitude"

    def summary(self, report: StepReport) -> Text:
        """Return how many units stay."""
        return description.summarize(report, description.UNITS)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return tags for structured pruning."""
        return ("pruned", "structured-pruning", "width-pruning")

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the error of every layer before and after the refit."""
        return description.tabulate(report)


class PruneHeads(ByPart, Step):
    """Remove attention heads, and refit the output projections.

    Where several query heads share keys and values, they are removed together with these, and count as one.
    """

    by_block: ClassVar[bool] = True
    effect: ClassVar[Text | None] = _REMOVED

    score: Literal["obs", "activation", "magnitude"] = "obs"
    """Order in which heads are removed: ``obs`` by the error that the best refit leaves, ``activation`` by the power of
    what a head adds to the output, ``magnitude`` by its columns of the output projection alone."""
    refit: bool = True
    """If true, the output projection is fitted by least squares to the outputs before."""
    damp: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Share of the mean second moment that is added to all of them, against overfitting, as in ``prune_width``."""
    held_out: HeldOut = 0.2
    """Share of the samples that is not used for the fit, and on which its error is measured."""

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return self.refit or self.score != "magnitude"

    def summary(self, report: StepReport) -> Text:
        """Return how many heads stay."""
        return description.summarize(report, description.HEADS)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return tags for structured pruning."""
        return ("pruned", "structured-pruning", "head-pruning")

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the error of every layer before and after the refit."""
        return description.tabulate(report)


class PruneLayers(ByPart, Step):
    """Remove whole layers, and let the layers before them absorb what they added.

    The output projection of the layer before is fitted by ridge least squares, so that the hidden states equal those
    that left the last removed layer as well as they can; those of the next layers are fitted to what left these.
    """

    effect: ClassVar[Text | None] = _REMOVED

    layers: Annotated[tuple[Pattern, ...], Field(min_length=1)] | None = None
    """Names or patterns of the layers to remove; by default the least important of each part are, by measurement."""
    choice: Literal["divergence", "even"] = "divergence"
    """Way to choose the layers: ``divergence`` removes those whose absence changes the outputs least, ``even`` those
    that are evenly spread, which takes no measurement."""
    absorb: bool = True
    """If false, layers are removed and nothing is fitted."""
    damp: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Share of the mean second moment that is added to all of them, against overfitting."""
    held_out: HeldOut = 0.2
    """Share of the samples that is not used for the choice and the fit, and on which the change is measured."""

    @model_validator(mode="after")
    def _one_way(self) -> PruneLayers:
        if self.layers is not None and (self.keep is not None or self.parts):
            problem = "layers names what to remove, keep and parts say how many stay; give one of them"
            raise PydanticCustomError("fit", "{problem}", {"problem": problem})
        return self

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return self.absorb or (self.layers is None and self.choice == "divergence")

    def summary(self, report: StepReport) -> Text:
        """Return how many layers stay."""
        return description.summarize(report, description.LAYERS)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return tags for structured pruning."""
        return ("pruned", "structured-pruning", "layer-pruning")

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the divergence after each removal, and the errors of the layers that absorbed others."""
        return (*description.tabulate_removals(report), *description.tabulate(report))
