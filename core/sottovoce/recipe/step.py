"""Steps: what a recipe can do to a model, each with its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, LiteralString

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.errors import PluginError
from sottovoce.experts import description as experts
from sottovoce.quantization import description as quantization
from sottovoce.report import Figure, StepReport, Table
from sottovoce.text.translations import Text

_STEPS: dict[str, type[Step]] = {}

Pattern = Annotated[str, Field(min_length=1)]


class Step(BaseModel):
    """One thing to do to a model. A subclass is known by its name in snake case: ``PruneExperts`` is ``prune_experts``.

    Fields are validated when the recipe is read; unknown keys are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str] = ""
    by_block: ClassVar[bool] = False
    """Whether the step changes a model block by block: its hook then answers a
    :class:`~sottovoce.calibration.runner.BlockStep`, and it shares one pass with such steps beside it."""
    effect: ClassVar[Text | None] = None
    """Fate of the parameters that the step's coverage counts, such as ``removed``; by default ``compressed``."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        known = _STEPS.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise PluginError(f"step {cls.name!r} is defined by both {known.__module__} and {cls.__module__}")
        _STEPS[cls.name] = cls

    @property
    def needs_samples(self) -> bool:
        """Whether the step can only be applied with calibration samples."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """The form that a YAML recipe has; defaults are written out, what is unset is not."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {"step": self.name, **{key: value for key, value in fields.items() if value not in ([], {})}}

    def summary(self, report: StepReport) -> Text:
        """Return one sentence on what the step did; like the next three, it travels in ``compression.json``."""
        return Text(en=f"Applied the step {report.name}.", zh=f"执行了步骤 {report.name}。")

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return words to find the model by on a hub."""
        return ()

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return tables for the model card, such as of the report's ``details``."""
        return ()

    def figures(self, report: StepReport) -> tuple[Figure, ...]:
        """Return the pictures for the model card among the files that the step wrote beside the weights."""
        return ()


class GPTQ(BaseModel):
    """How GPTQ works."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    damping: Annotated[float, Field(gt=0, le=1)] = 0.01
    """What is added to the diagonal of the second moments, as a share of its mean."""
    block_size: Annotated[int, Field(ge=1)] = 128
    """Columns after which the errors are carried to all the columns that follow."""
    act_order: bool = True
    """Whether columns with larger inputs are rounded first."""
    true_sequential: bool = True
    """Whether a layer sees what the earlier layers of its block became, not only what earlier blocks did."""


class StaticRange(BaseModel):
    """How the range of a calibrated input is chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choose: Literal["minmax", "percentile", "mse"] = "mse"
    """``minmax`` covers all values; ``percentile`` leaves the outermost out; ``mse`` has the least squared error."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """Share of the values inside, in percent, for ``percentile``."""


class Override(BaseModel):
    """What is different for some layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: Literal[4, 8] = 8
    group_size: Literal[8, 16, 32, 64, 128] | None = None


class Quantize(Step):
    """Store the weights of linear layers and embedding tables in 8 or 4 bits.

    With 8 bits and dynamic or static ``activations`` the products run in int8 as well (W8A8).
    """

    by_block: ClassVar[bool] = True

    bits: Literal[4, 8] = 8
    """Width of a stored weight."""
    type: Literal["int", "float"] = "int"
    """``float`` is fp8 (e4m3), for the weights only."""
    group_size: Literal[8, 16, 32, 64, 128, "auto"] | None = None
    """Inputs that share a scale; without it an output channel has one.

    ``auto``, which 4 bits have when nothing is said, is the largest of 64, 32, 16 and 8 that divides a layer's inputs.
    Layers of a mixture that its library reads only alike take one that divides the inputs of all. A layer that none
    divides takes 8 bits, and is named.
    """
    symmetric: bool = True
    """Whether zero is the middle of the range; otherwise zero points are stored."""
    activations: Literal["none", "dynamic", "static"] = "dynamic"
    """``dynamic``: inputs are rounded at run time, by their own range; ``static``: by a range found on samples.

    By default ``dynamic`` for int8 without groups and zero points, otherwise ``none``.
    """
    method: Literal["round_to_nearest", "squant", "gptq", "awq", "hqq"] = "round_to_nearest"
    """How the steps are chosen: ``gptq`` and ``awq`` need samples."""
    weight_range: Literal["minmax", "mse"] = "minmax"
    """Whether a scale covers the largest weight, or has the least squared error."""
    embeddings: Literal["int8", "keep", "auto"] | None = None
    """What happens to embedding tables; by default the architecture's targets say it.

    ``auto`` is ``int8``, but the default where transformers could not read them: beside experts it reads one kind.
    """
    targets: tuple[Pattern, ...] | None = None
    """Patterns of the modules to quantize; by default the architecture's."""
    ignore: tuple[Pattern, ...] = ()
    """Patterns to leave out, beside the architecture's."""
    overrides: Mapping[Pattern, Override] = {}
    """Other widths for some layers, by pattern; the first that matches counts."""
    gptq: GPTQ | None = None
    """How GPTQ works, for the method ``gptq``."""
    input_range: StaticRange | None = None
    """How ranges are chosen, for ``static`` activations."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of all parameters that must be changed; by default the architecture's, or 0 with ``targets`` given."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        made = dict(fields)
        if made.get("bits") == 4:
            made.setdefault("group_size", "auto")
        is_int8 = made.get("bits", 8) == 8 and made.get("type", "int") == "int"
        plain = is_int8 and made.get("group_size") is None and made.get("symmetric", True)
        made.setdefault("activations", "dynamic" if plain else "none")
        if made.get("method") == "gptq":
            made.setdefault("gptq", {})
        if made["activations"] == "static":
            made.setdefault("input_range", {})
        return made

    @model_validator(mode="after")
    def _fit_together(self) -> Quantize:
        rounds_inputs = self.activations != "none"
        problems = {
            "only 8-bit integers of one scale a channel are multiplied as integers: set activations to none":
                rounds_inputs and (self.bits != 8 or self.type != "int" or self.group_size or not self.symmetric),
            "fp8 weights have 8 bits, no groups and no zero point, and are rounded to nearest":
                self.type == "float" and (
                    self.bits != 8 or self.group_size or not self.symmetric or self.method != "round_to_nearest"
                ),
            "gptq holds options of the method gptq only": self.gptq is not None and self.method != "gptq",
            "input_range is for static activations only":
                self.input_range is not None and self.activations != "static",
        }  # fmt: skip
        if found := [problem for problem, there in problems.items() if there]:
            raise PydanticCustomError("fit", "{problem}", {"problem": "; ".join(found)})
        return self

    @property
    def needs_samples(self) -> bool:
        """Whether the step can only be applied with calibration samples."""
        return self.method in ("gptq", "awq") or self.activations == "static"

    def summary(self, report: StepReport) -> Text:
        """Return what was quantized, and how."""
        return quantization.summarize(self, report)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the width, the method and the format on disk."""
        return quantization.tags(self, report)


class Smooth(Step):
    """SmoothQuant: move outliers from the inputs of linear layers into their weights, before these are quantized."""

    by_block: ClassVar[bool] = True

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much of an outlier moves into the weights."""

    @property
    def needs_samples(self) -> bool:
        """Always true: outliers are found on samples."""
        return True

    def summary(self, report: StepReport) -> Text:
        """Return what was smoothed."""
        return quantization.summarize_smoothing(self)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the method."""
        return ("smoothquant",)


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
        return experts.summarize_skipping(self)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the step's name."""
        return ("skip-experts",)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the expert runs that are saved."""
        return experts.tabulate_skipping(report)


def step_classes() -> Mapping[str, type[Step]]:
    """Return every known step, by the name a recipe file gives it."""
    return dict(_STEPS)


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

    effect: ClassVar[Text | None] = Text(en="removed", zh="已移除")

    def summary(self, report: StepReport) -> Text:
        """Return how many experts stay."""
        return experts.summarize_pruning(report)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return what was pruned, and by which saliency."""
        return ("pruned", "expert-pruning", self.saliency)

    def tables(self, report: StepReport) -> tuple[Table, ...]:
        """Return the experts that stay."""
        return experts.tabulate_pruning(report)

    def figures(self, report: StepReport) -> tuple[Figure, ...]:
        """Return the curves of saliency."""
        return (experts.SALIENCY,)

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
