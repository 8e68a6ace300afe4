"""Recipes: steps in order, read from YAML or JSON and written again."""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from sottovoce.errors import RecipeError, reason
from sottovoce.recipe.step import Step, step_classes
from sottovoce.report.fields import LARGEST
from sottovoce.system.path_argument import as_path


class Recipe(BaseModel):
    """Steps in the order in which they are applied."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    steps: tuple[Step, ...]
    gate: Mapping[str, float] = {}
    """Bounds on the accuracy after compression, by metric: ``max_cer_increase``, ``min_token_agreement`` and the like.

    If one is exceeded, the most sensitive layers are restored to higher precision until all bounds are met.
    """
    description: str | None = None
    """Case that the recipe is for, as the end of a sentence that begins with "use it when"."""
    title: str | None = None
    """Name of the preset or of the file that the recipe was read from."""

    @field_validator("steps")
    @classmethod
    def _expanded(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Put the steps that a step stands for in its place, also where a recipe is built in Python."""
        return tuple(part for step in steps for part in step.expand())

    @property
    def needs_samples(self) -> bool:
        """If true, one of the steps needs samples, to calibrate or to train on."""
        return self.needs_calibration or self.needs_training_samples

    @property
    def needs_calibration(self) -> bool:
        """If true, one of the steps needs calibration samples."""
        return any(step.needs_samples for step in self.steps)

    @property
    def needs_training_samples(self) -> bool:
        """If true, one of the steps needs samples to train on."""
        return any(step.needs_training_samples for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that a YAML or JSON recipe has."""
        gate = {"gate": dict(self.gate)} if self.gate else {}
        described = {"description": self.description} if self.description else {}
        return {**described, "steps": [step.to_dict() for step in self.steps], **gate}

    def to_yaml(self) -> str:
        """Return the recipe as YAML, which :meth:`read` reads."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_dict(cls, form: Any, title: str = "recipe") -> Recipe:
        """Return the recipe of a plain form, validated as a whole.

        Args:
            form: ``{"steps": [{"step": "quantize", "bits": 8}, ...]}``; an item may be a :class:`Step` as well.
            title: Name of the recipe in errors and reports.

        Raises:
            RecipeError: Lists every problem: unknown steps, unknown keys, values out of range.
        """
        problems: list[str] = []
        steps = list(_steps(form, problems))
        gate = _gate(form, problems)
        description = _description(form, problems)
        if problems:
            raise RecipeError(f"{title}: {'; '.join(problems)}")
        return cls(steps=tuple(steps), gate=gate, description=description, title=title)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a ``.yaml``, ``.yml`` or ``.json`` file.

        Raises:
            RecipeError: The file is missing, is not YAML or JSON, or does not validate.
        """
        path = as_path(path, "path")
        try:
            text = path.read_text(encoding="utf-8")
            form = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read ({error})") from None
        except RecursionError:
            raise RecipeError(f"{path}: not a recipe file: it is nested too deeply") from None
        except (yaml.YAMLError, json.JSONDecodeError) as error:
            raise RecipeError(f"{path}: not a recipe file: {' '.join(str(error).split())}") from None
        except (ValueError, ArithmeticError, LookupError, AttributeError) as error:
            # PyYAML's, for a date or a number that is none.
            raise RecipeError(f"{path}: not a recipe file: {reason(error)}") from None
        return cls.from_dict(form, title=str(path))


RecipeArgument = Recipe | Step | str | os.PathLike[str] | Mapping[str, Any] | Sequence[Step | Mapping[str, Any]]
"""Types of a recipe as an argument: a preset's name, a file, a recipe, its plain form, or its steps."""


def as_recipe(recipe: RecipeArgument) -> Recipe | None:
    """Return what a caller gave as a recipe; ``None`` for a name, which is a preset's or a file's.

    Raises:
        RecipeError: It is of another type, or does not validate.
    """
    if isinstance(recipe, str | os.PathLike):
        return None
    # What has a recipe will do: the result of a search.
    whole = recipe if isinstance(recipe, Recipe) else getattr(recipe, "recipe", None)
    if isinstance(whole, Recipe):
        return whole
    if isinstance(recipe, Mapping):
        return Recipe.from_dict(recipe)
    if isinstance(recipe, Step):
        return Recipe.from_dict({"steps": [recipe]})
    if isinstance(recipe, list | tuple):
        return Recipe.from_dict({"steps": recipe})
    kind = recipe.__name__ if isinstance(recipe, type) else type(recipe).__name__
    advice = f"; write {kind}(...)" if isinstance(recipe, type) and issubclass(recipe, Step) else ""
    raise RecipeError(f"recipe: give a preset's name, a recipe file, a mapping, or a list of steps, not {kind}{advice}")


def _steps(form: Any, problems: list[str]) -> Iterable[Step]:
    if not isinstance(form, Mapping) or not isinstance(form.get("steps"), list | tuple) or not form["steps"]:
        problems.append("a recipe is a mapping with a list of 'steps', such as {steps: [{step: quantize, bits: 8}]}")
        return
    if extra := sorted(_shown(key) for key in form if key not in ("description", "steps", "gate")):
        problems.append(f"unknown key {', '.join(extra)}")
    known = step_classes()
    for number, item in enumerate(form["steps"], 1):
        where = f"step {number}"
        if isinstance(item, Step):
            yield item
            continue
        if not isinstance(item, Mapping) or "step" not in item:
            problems.append(f"{where}: a step is a mapping with a 'step' name, such as {{step: quantize, bits: 8}}")
            continue
        kind = known.get(item["step"]) if isinstance(item["step"], str) else None
        if kind is None:
            problems.append(f"{where}: unknown step {_shown(item['step'])} (known: {', '.join(sorted(known))})")
            continue
        try:
            yield kind.model_validate({key: value for key, value in item.items() if key != "step"})
        except ValidationError as error:
            problems.extend(f"{where} ({kind.name}): {_problem(details)}" for details in error.errors())


def _description(form: Any, problems: list[str]) -> str | None:
    description = form.get("description") if isinstance(form, Mapping) else None
    if description is not None and not isinstance(description, str):
        problems.append(f"description: must be a text, not {_shown(description)}")
        return None
    return description


def _gate(form: Any, problems: list[str]) -> dict[str, float]:
    gate = form.get("gate") if isinstance(form, Mapping) else None
    if gate is None:
        return {}
    if not isinstance(gate, Mapping):
        problems.append("gate: a mapping of limits, such as {max_cer_increase: 0.5}")
        return {}
    for name, bound in gate.items():
        if not re.fullmatch(r"(max|min)_[\w-]+", str(name)):
            problems.append(
                f"gate: {name!r} is not a valid limit; write max_ or min_ and a metric, such as max_cer_increase"
            )
        elif isinstance(bound, bool) or not isinstance(bound, int | float) or not -LARGEST <= bound <= LARGEST:
            problems.append(f"gate: {name} must be a number, not {_shown(bound)}, and within 2**63")
    return {str(name): bound for name, bound in gate.items()}


def _problem(details: Any) -> str:
    place = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    if details["type"] == "fit":
        return str(details["msg"])
    return f"{place}: {details['msg'][0].lower()}{details['msg'][1:]}, not {_shown(details['input'])}"


class _Short(reprlib.Repr):
    """Short form of values, also of those that are nested without end, or have more digits than Python prints."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60

    def repr_int(self, x: int, level: int) -> str:
        """Return an integer, or how large it is."""
        return super().repr_int(x, level) if -LARGEST <= x <= LARGEST else f"a number of {x.bit_length()} bits"


_shown = _Short().repr
