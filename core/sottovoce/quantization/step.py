"""Steps that quantize: ``quantize`` and ``smooth``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from sottovoce.quantization import description
from sottovoce.quantization.method import Method, methods
from sottovoce.quantization.methods.round_to_nearest import RoundToNearest
from sottovoce.recipe.pattern import Pattern
from sottovoce.recipe.scheme import WIDTHS
from sottovoce.recipe.step import Step
from sottovoce.report import StepReport
from sottovoce.text.plain_text import shortened
from sottovoce.text.translations import Text

_NARROW = tuple(bits for bits in WIDTHS if bits < 8)


class StaticRange(BaseModel):
    """Choice of the range of a calibrated input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choose: Literal["minmax", "percentile", "mse"] = "mse"
    """``minmax`` covers all values; ``percentile`` leaves the outermost out; ``mse`` has the least squared error."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """Share of the values inside, in percent, for ``percentile``."""


class Override(BaseModel):
    """Different settings for single layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bits: Literal[2, 3, 4, 8] = 8
    group_size: Literal[8, 16, 32, 64, 128] | None = None
    activations: Literal["none"] | None = None
    """``none`` leaves the inputs of these layers float; by default 8 bits without groups have the step's."""


class Quantize(Step):
    """Store the weights of linear layers and embedding tables in 8, 4, 3 or 2 bits.

    With 8 bits and dynamic or static ``activations`` the products run in int8 as well (W8A8).
    """

    by_block: ClassVar[bool] = True

    bits: Literal[2, 3, 4, 8] = 8
    """Width of a stored weight. For 2 and 3 set ``weight_range`` to ``mse``: a range that covers all wastes values."""
    type: Literal["int", "float"] = "int"
    """``float`` is fp8 (e4m3), for the weights only."""
    group_size: Literal[8, 16, 32, 64, 128, "auto"] | None = None
    """Inputs that share a scale; without it an output channel has one.

    ``auto``, which fewer than 8 bits have when nothing is said, is the largest of 64, 32, 16 and 8 that divides a
    layer's inputs. Layers of a mixture that its library reads only alike take one that divides the inputs of all. A
    layer that none divides takes 8 bits, and is named.
    """
    symmetric: bool = True
    """If true, zero is the middle of the range; otherwise zero points are stored."""
    activations: Literal["none", "dynamic", "static"] = "dynamic"
    """``dynamic``: inputs are quantized at run time, with the range that they have then; ``static``: with a range that
    was calibrated on samples.

    By default ``dynamic`` for int8 without groups and zero points, otherwise ``none``.
    """
    method: str = "round_to_nearest"
    """Method that chooses the quantized values. Its options are set under its own name: ``gptq: {damping: 0.1}``."""
    options: SerializeAsAny[Method] = Field(default_factory=RoundToNearest, exclude=True)
    """Options of the method."""
    weight_range: Literal["minmax", "mse"] = "minmax"
    """Range of a scale: ``minmax`` covers the largest weight, ``mse`` has the least squared error."""
    embeddings: Literal["int8", "keep", "auto"] | None = None
    """Treatment of embedding tables; by default the architecture's targets decide.

    ``auto`` is ``int8``, but the default where transformers could not read them: beside experts it reads one kind.
    """
    targets: tuple[Pattern, ...] | None = None
    """Patterns of the modules to quantize; by default the architecture's."""
    ignore: tuple[Pattern, ...] = ()
    """Patterns to leave out, beside the architecture's."""
    overrides: Mapping[Pattern, Override] = {}
    """Other widths for some layers, by pattern; the first that matches counts."""
    input_range: StaticRange | None = None
    """Choice of the ranges, for ``static`` activations."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of all parameters that must be changed; by default the architecture's, or 0 with ``targets`` given."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        fields = _with_method(fields)
        if fields.get("bits") in _NARROW and fields.get("group_size") is None:
            fields["group_size"] = "auto"
        is_int8 = fields.get("bits", 8) == 8 and fields.get("type", "int") == "int"
        plain = is_int8 and fields.get("group_size") is None and fields.get("symmetric", True)
        fields.setdefault("activations", "dynamic" if plain else "none")
        if fields["activations"] == "static" and fields.get("input_range") is None:
            fields["input_range"] = {}
        return fields

    @model_validator(mode="after")
    def _fit_together(self) -> Quantize:
        quantizes_inputs = self.activations != "none"
        fp8 = self.type == "float"
        problems = {
            "only 8-bit integers of one scale a channel are multiplied as integers: set activations to none": (
                quantizes_inputs and (self.bits != 8 or fp8 or self.group_size or not self.symmetric)
            ),
            "fp8 weights have 8 bits, no groups and no zero point, and are rounded to nearest": (
                fp8 and (self.bits != 8 or self.group_size or not self.symmetric or self.type not in self.options.types)
            ),
            "input_range is for static activations only": (
                self.input_range is not None and self.activations != "static"
            ),
        }
        if unfit := [problem for problem, applies in problems.items() if applies]:
            raise _problem("; ".join(unfit))
        return self

    @property
    def without_original(self) -> Quantize:
        """The step as it is applied where the original model is not run beside the one that is quantized."""
        method = self.options.without_original
        return self.model_copy(update={"method": method.name, "options": method})

    @property
    def stored_bits(self) -> str:
        """Bits of the weights, such as ``int8`` or ``fp8``."""
        return f"{'fp' if self.type == 'float' else 'int'}{self.bits}"

    @property
    def needs_samples(self) -> bool:
        """If true, the step can only be applied with calibration samples."""
        return self.options.needs_samples or self.activations == "static"

    def summary(self, report: StepReport) -> Text:
        """Return what was quantized, and how."""
        applied = methods()[str(report.step.get("method", self.method))]
        return description.summarize(self.to_dict(), applied.label, report)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the width, the method and the format on disk."""
        return description.tags({**self.to_dict(), "method": report.step.get("method", self.method)}, report)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that a YAML recipe has, the method's options under its name."""
        options = self.options.model_dump(mode="json")
        return super().to_dict() | ({self.method: options} if options else {})


def _with_method(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with the method's options in place of the mapping under its name."""
    name, known = fields.get("method", "round_to_nearest"), methods()
    if not isinstance(name, str) or name not in known:
        raise _problem(f"method: there is no {shortened(repr(name), 60)}; the methods are {', '.join(known)}")
    if "options" in fields:
        raise _problem(f"unknown key 'options'; those of a method are set under its name, as in {name}: {{...}}")
    if name in Quantize.model_fields:
        raise _problem(
            f"method: {name!r} of {known[name].__module__} is the name of a setting as well; its author must rename it"
        )
    if others := sorted(set(fields) & set(known) - {name, *Quantize.model_fields}):
        raise _problem(f"{others[0]} holds options of the method {others[0]} only")
    options = fields.get(name, {})
    if not isinstance(options, Method):
        options = _validated(known[name], {} if options is None else options)
    return {key: value for key, value in fields.items() if key != name} | {"options": options}


def _validated(kind: type[Method], options: Any) -> Method:
    """Return the options of a method; errors say that they are below its name."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        details = [
            InitErrorDetails(
                type=PydanticCustomError(detail["type"], "{message}", {"message": detail["msg"]}),
                loc=(kind.name, *detail["loc"]),
                input=detail["input"],
            )
            for detail in error.errors()
        ]
        raise ValidationError.from_exception_data(kind.name, details) from None


def _problem(text: str) -> PydanticCustomError:
    return PydanticCustomError("fit", "{problem}", {"problem": text})


class Smooth(Step):
    """SmoothQuant: move outliers from the inputs of linear layers into their weights, before these are quantized."""

    by_block: ClassVar[bool] = True

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of an outlier that moves into the weights."""

    @property
    def needs_samples(self) -> bool:
        """Always true: outliers are found on samples."""
        return True

    def summary(self, report: StepReport) -> Text:
        """Return what was smoothed."""
        return description.summarize_smoothing(self.alpha)

    def tags(self, report: StepReport) -> tuple[str, ...]:
        """Return the method."""
        return ("smoothquant",)
