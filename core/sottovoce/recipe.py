"""Recipes: typed steps and named presets; YAML and JSON in, the same out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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

    def to_dict(self) -> dict[str, Any]:
        """The form that a YAML recipe has; defaults are written out, what is unset is not."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {"step": self.name, **{key: value for key, value in fields.items() if value != []}}


class Quantize(Step):
    """Store the weights of linear layers and embedding tables as integers, one scale an output channel or row.

    With 8 bits and ``dynamic`` activations the products run in int8 as well (W8A8): each input is quantized by its own
    range while the model runs, so no calibration is needed.
    """

    bits: Literal[8] = 8
    """Width of a stored weight."""
    activations: Literal["dynamic"] = "dynamic"
    """``dynamic``: inputs are quantized at run time, by their own range."""
    targets: tuple[Pattern, ...] | None = None
    """Patterns of the modules to quantize; by default the architecture's."""
    ignore: tuple[Pattern, ...] = ()
    """Patterns to leave out, beside the architecture's."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of all parameters that must be changed; by default the architecture's, or 0 with ``targets`` given."""


class Recipe(BaseModel):
    """Steps in the order in which they are applied."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    steps: tuple[Step, ...]
    title: str | None = None
    """The preset or the file that the recipe was read from."""

    def to_dict(self) -> dict[str, Any]:
        """The form that a YAML or JSON recipe has."""
        return {"steps": [step.to_dict() for step in self.steps]}

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
        if problems:
            raise RecipeError(f"{title}: {'; '.join(problems)}")
        return cls(steps=tuple(steps), title=title)

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


PRESETS: Mapping[str, Recipe] = {
    "int8": Recipe(steps=(Quantize(bits=8),), title="int8"),
}
"""Core's recipes, for every family; a plugin adds its own by ``Architecture.presets``."""


def step_classes() -> Mapping[str, type[Step]]:
    """Every known step, by the name a recipe file gives it."""
    return dict(_STEPS)


def _steps(form: Any, problems: list[str]) -> Iterable[Step]:
    if not isinstance(form, Mapping) or not isinstance(form.get("steps"), list) or not form["steps"]:
        problems.append("a recipe is a mapping with a list of 'steps', such as {steps: [{step: quantize, bits: 8}]}")
        return
    if extra := sorted(set(form) - {"steps"}):
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


def _problem(details: Any) -> str:
    place = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    return f"{place}: {details['msg'][0].lower()}{details['msg'][1:]}, not {details['input']!r}"
