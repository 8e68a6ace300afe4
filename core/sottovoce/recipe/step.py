"""Steps of a recipe, and the registry of their classes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from sottovoce.errors import PluginError
from sottovoce.report import Figure, StepReport, Table
from sottovoce.system.registry import new_registry
from sottovoce.text.translations import Text

BUILTIN = (
    "sottovoce.quantization.step",
    "sottovoce.quantization.cast_step",
    "sottovoce.experts.step",
    "sottovoce.pruning.step",
    "sottovoce.pruning.weights_step",
    "sottovoce.pruning.shrink_step",
    "sottovoce.training.step",
    "sottovoce.training.blocks_step",
)
"""Modules of core that define steps; plugins define more when they are imported."""

_STEPS: dict[str, type[Step]] = new_registry()


class Step(BaseModel):
    """One change to a model. A subclass is known by its name in snake case: ``PruneExperts`` is ``prune_experts``.

    Fields are validated when the recipe is read; unknown keys are refused. A class that other steps share, and that is
    not itself applied, sets ``abstract``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str] = ""
    abstract: ClassVar[bool] = False
    """If true in a class's own body, the class only serves others as their base."""
    by_block: ClassVar[bool] = False
    """If true, the step changes a model block by block: its hook returns a
    :class:`~sottovoce.calibration.block_step.BlockStep`, and adjacent steps of this kind share one pass."""

    effect: ClassVar[Text | None] = None
    """Fate of the parameters that the step's coverage counts, such as ``removed``; by default ``compressed``."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__dict__.get("abstract"):
            return
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        known = _STEPS.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise PluginError(f"step {cls.name!r} is defined by both {known.__module__} and {cls.__module__}")
        _STEPS[cls.name] = cls

    @property
    def needs_samples(self) -> bool:
        """If true, the step needs calibration samples."""
        return False

    @property
    def needs_training_samples(self) -> bool:
        """If true, the step needs samples to train on; those of the calibration will do."""
        return False

    @property
    def stored_bits(self) -> str:
        """Bits in which the step stores weights, such as ``int8``; empty if it leaves them as they are."""
        return ""

    def expand(self) -> tuple[Step, ...]:
        """Return the steps that the step stands for, in a recipe that is read; by default itself."""
        return (self,)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that a YAML recipe has, with defaults and without what is unset."""
        fields = dict.fromkeys(name for name, field in type(self).model_fields.items() if not field.exclude)
        fields |= self.model_dump(mode="json", exclude_none=True)
        return {"step": self.name, **{key: value for key, value in fields.items() if not self._is_unset(key, value)}}

    def _is_unset(self, name: str, value: Any) -> bool:
        """Return whether a field is empty, and is so as well when nothing is said."""
        if value is not None and value not in ([], {}):
            return False
        field = type(self).model_fields.get(name)
        return field is None or bool(field.get_default(call_default_factory=True) == getattr(self, name))

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
        """Return the figures for the model card among the files that the step attached to the model."""
        return ()


def step_classes() -> Mapping[str, type[Step]]:
    """Return every known step, by its name in recipe files."""
    for module in BUILTIN:
        importlib.import_module(module)
    return dict(_STEPS)
