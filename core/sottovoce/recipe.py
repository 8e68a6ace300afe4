"""Recipes: typed steps and named presets; YAML and JSON in, the same out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from sottovoce.errors import PluginError, RecipeError

_STEPS: dict[str, type[Step]] = {}

Pattern = Annotated[str, Field(min_length=1)]


class Step(BaseModel):
    """One thing to do to a model. A subclass is known by its name in snake case: ``PruneExperts`` is ``prune_experts``.

    Fields are validated when the recipe is read; unknown keys are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str] = ""

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
    group_size: Literal[32, 64, 128] | None = None


class Quantize(Step):
    """Store the weights of linear layers and embedding tables in 8 or 4 bits.

    With 8 bits and dynamic or static ``activations`` the products run in int8 as well (W8A8).
    """

    bits: Literal[4, 8] = 8
    """Width of a stored weight."""
    type: Literal["int", "float"] = "int"
    """``float`` is fp8 (e4m3), for the weights only."""
    group_size: Literal[32, 64, 128, "auto"] | None = None
    """Inputs that share a scale; without it an output channel has one.

    ``auto``, which 4 bits have when nothing is said, is 64 or 32, whichever divides a layer's inputs; a layer that
    neither divides takes 8 bits.
    """
    symmetric: bool = True
    """Whether zero is the middle of the range; otherwise zero points are stored."""
    activations: Literal["none", "dynamic", "static"] = "dynamic"
    """``dynamic``: inputs are rounded at run time, by their own range; ``static``: by a range found on samples.

    By default ``dynamic`` for int8 without groups, otherwise ``none``.
    """
    method: Literal["round_to_nearest", "gptq", "awq", "hqq"] = "round_to_nearest"
    """How the steps are chosen: ``gptq`` and ``awq`` need samples."""
    weight_range: Literal["minmax", "mse"] = "minmax"
    """Whether a scale covers the largest weight, or has the least squared error."""
    embeddings: Literal["int8", "keep"] | None = None
    """What happens to embedding tables; by default the architecture's targets say it."""
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
        plain = made.get("bits", 8) == 8 and made.get("type", "int") == "int" and made.get("group_size") is None
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


class Smooth(Step):
    """SmoothQuant: move outliers from the inputs of linear layers into their weights, before these are quantized."""

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How much of an outlier moves into the weights."""

    @property
    def needs_samples(self) -> bool:
        """It always does: outliers are found on them."""
        return True


class Recipe(BaseModel):
    """Steps in the order in which they are applied."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    steps: tuple[Step, ...]
    gate: Mapping[str, float] = {}
    """Limits on what compression may cost, by metric: ``max_cer_increase``, ``max_boundary_shift_ms`` and the like.

    Where one is missed, the most sensitive layers are made precise again until it holds.
    """
    title: str | None = None
    """The preset or the file that the recipe was read from."""

    @property
    def needs_samples(self) -> bool:
        """Whether a step of it can only be applied with calibration samples."""
        return any(step.needs_samples for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """The form that a YAML or JSON recipe has."""
        gate = {"gate": dict(self.gate)} if self.gate else {}
        return {"steps": [step.to_dict() for step in self.steps], **gate}

    def to_yaml(self) -> str:
        """The recipe as YAML; :meth:`read` gives it back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_dict(cls, form: Any, title: str = "recipe") -> Recipe:
        """Validate the plain form as a whole.

        Args:
            form: ``{"steps": [{"step": "quantize", "bits": 8}, ...]}``.
            title: What to call it in errors and reports.

        Raises:
            RecipeError: Lists every problem: unknown steps, unknown keys, values out of range.
        """
        problems: list[str] = []
        steps = list(_steps(form, problems))
        gate = _gate(form, problems)
        if problems:
            raise RecipeError(f"{title}: {'; '.join(problems)}")
        return cls(steps=tuple(steps), gate=gate, title=title)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a ``.yaml``, ``.yml`` or ``.json`` file.

        Raises:
            RecipeError: The file is missing, is not YAML or JSON, or does not validate.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            form = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read ({error})") from None
        except (yaml.YAMLError, json.JSONDecodeError) as error:
            raise RecipeError(f"{path}: not a recipe file: {' '.join(str(error).split())}") from None
        return cls.from_dict(form, title=str(path))


def _preset(title: str, **fields: Any) -> Recipe:
    return Recipe(steps=(Quantize.model_validate(fields),), title=title)


PRESETS: Mapping[str, Recipe] = {
    recipe.title or "": recipe
    for recipe in (
        _preset("int8"),
        _preset("int8-static", activations="static"),
        _preset("int8-weight", activations="none"),
        _preset("int4", bits=4, method="gptq", weight_range="mse", embeddings="int8"),
        _preset("int4-awq", bits=4, method="awq", weight_range="mse", embeddings="int8"),
        _preset("fp8", type="float"),
    )
}
"""Core's recipes, for every family; a plugin adds its own by ``Architecture.presets``."""


def step_classes() -> Mapping[str, type[Step]]:
    """Every known step, by the name a recipe file gives it."""
    return dict(_STEPS)


def _steps(form: Any, problems: list[str]) -> Iterable[Step]:
    if not isinstance(form, Mapping) or not isinstance(form.get("steps"), list) or not form["steps"]:
        problems.append("a recipe is a mapping with a list of 'steps', such as {steps: [{step: quantize, bits: 8}]}")
        return
    if extra := sorted(set(form) - {"steps", "gate"}):
        problems.append(f"unknown key {', '.join(map(repr, extra))}")
    for number, item in enumerate(form["steps"], 1):
        where = f"step {number}"
        if not isinstance(item, Mapping) or "step" not in item:
            problems.append(f"{where}: a step is a mapping with a 'step' name")
            continue
        kind = _STEPS.get(str(item["step"]))
        if kind is None:
            problems.append(f"{where}: unknown step {item['step']!r} (known: {', '.join(sorted(_STEPS))})")
            continue
        try:
            yield kind.model_validate({key: value for key, value in item.items() if key != "step"})
        except ValidationError as error:
            problems.extend(f"{where} ({kind.name}): {_problem(details)}" for details in error.errors())


def _gate(form: Any, problems: list[str]) -> dict[str, float]:
    gate = form.get("gate") if isinstance(form, Mapping) else None
    if gate is None:
        return {}
    if not isinstance(gate, Mapping):
        problems.append("gate: a mapping of limits, such as {max_cer_increase: 0.5}")
        return {}
    for name, bound in gate.items():
        if not re.fullmatch(r"(max|min)_\w+", str(name)):
            problems.append(f"gate: {name!r} is no limit; one is max_ or min_ and a metric, such as max_cer_increase")
        elif isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            problems.append(f"gate: {name} must be a number, not {bound!r}")
    return {str(name): bound for name, bound in gate.items()}


def _problem(details: Any) -> str:
    place = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    if details["type"] == "fit":
        return str(details["msg"])
    return f"{place}: {details['msg'][0].lower()}{details['msg'][1:]}, not {details['input']!r}"
