"""What was done to a model and what it measures: coverage, step reports, metrics, ``compression.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

COMPRESSION_FILE = "compression.json"


def to_json(form: Any, indent: int | None = None, *, ascii: bool = False) -> str:
    """Return a report's form as JSON. A number that is none (NaN or infinite), which JSON has not, becomes null."""
    return json.dumps(_finite(form), indent=indent, ensure_ascii=ascii, allow_nan=False)


def _finite(form: Any) -> Any:
    if isinstance(form, Mapping):
        return {key: _finite(value) for key, value in form.items()}
    if isinstance(form, list | tuple):
        return [_finite(value) for value in form]
    return None if isinstance(form, float) and not math.isfinite(form) else form


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A part of the model that stays as it was."""

    name: str
    parameters: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A module that a step changes."""

    name: str
    parameters: int
    """Elements that change; a bias that stays float is not among them."""
    bits: float | None = None
    """Bits of a stored weight, its share of scales and zero points included."""
    snr_db: float | None = None
    """Signal to noise ratio of the weight, in dB."""
    output_error: float | None = None
    """Squared error of the layer's output on the calibration samples, as a share of the output's power."""
    rounded_output_error: float | None = None
    """The same, had the weight been rounded to nearest."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the model (an encoder, say) in a coverage."""

    parameters: int
    compressed_parameters: int


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a model was compressed, by part, and what was kept and why."""

    parameters: int
    compressed_parameters: int
    parts: Mapping[str, Part] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Compressed share of all parameters, 0 to 1."""
        return self.compressed_parameters / self.parameters if self.parameters else 0.0

    @classmethod
    def of(cls, part_of: Callable[[str], str], parameters: Mapping[str, int], targets: Iterable[Target]) -> Coverage:
        """Count ``targets`` against all ``parameters`` (name to element count, before the step), by part."""
        total: dict[str, int] = {}
        changed: dict[str, int] = {}
        for name, count in parameters.items():
            part = part_of(name)
            total[part] = total.get(part, 0) + count
        for target in targets:
            part = part_of(target.name)
            changed[part] = changed.get(part, 0) + target.parameters
        parts = {part: Part(parameters=total[part], compressed_parameters=changed.get(part, 0)) for part in total}
        return cls(parameters=sum(total.values()), compressed_parameters=sum(changed.values()), parts=parts)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with the ratio."""
        return {**dataclasses.asdict(self), "ratio": round(self.ratio, 6)}


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step of a recipe really changed."""

    step: Mapping[str, Any]
    targets: tuple[Target, ...] = ()
    kept: tuple[Kept, ...] = ()
    coverage: Coverage | None = None
    seconds: float = 0.0
    timing: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the parts of the work, when they were taken apart."""
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    """What only steps of this kind have to tell, in the form of JSON."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        form = dataclasses.asdict(self)
        if not self.details:
            del form["details"]
        form["coverage"] = self.coverage.to_dict() if self.coverage else None
        # What was not measured is left out.
        form["targets"] = [
            {key: value for key, value in target.items() if value is not None} for target in form["targets"]
        ]
        return form


@dataclass(kw_only=True)
class CompressionReport:
    """The whole of a compression; beside the weights it is ``compression.json``."""

    recipe: Mapping[str, Any]
    architecture: str
    source: Mapping[str, Any]
    steps: list[StepReport | Mapping[str, Any]]
    coverage: Mapping[str, Any]
    size_bytes: dict[str, int]
    seconds: float
    peak_memory_bytes: int | None
    versions: Mapping[str, str]
    parameter_bits: Mapping[str, Mapping[str, int]] | None = None
    """How many parameters are stored in how many bits: ``before`` and ``after``, each by the bits of a weight without
    its share of scales. ``None`` in files of earlier versions."""
    peak_gpu_memory_bytes: int | None = None
    """The most memory that PyTorch took on GPUs while it compressed; ``None`` without one."""
    least_memory_bytes: int | None = None
    """What the compressed model takes at least while it runs, beside Python and the libraries."""
    samples: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    """The limits that were asked for, what was found, and which layers were made precise again for them."""
    output: str | None = None
    recipe_name: str | None = None
    """The preset, or the name of the file, that the recipe was read from."""
    card: Mapping[str, Any] | None = None
    """What the family's plugin states for a model card."""
    evaluations: list[Mapping[str, Any]] = field(default_factory=list)
    """What was measured of the model as it was saved, each the form of an :class:`EvaluationReport`."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        form = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        form["evaluations"] = [dict(evaluation) for evaluation in self.evaluations]
        form["steps"] = [step.to_dict() if isinstance(step, StepReport) else dict(step) for step in self.steps]
        return form

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> CompressionReport:
        """Read what :meth:`to_dict` wrote; keys that later versions add are ignored.

        Raises:
            TypeError: A field is missing, or its value is of another kind than was written; names it.
        """
        types = {item.name: str(item.type) for item in dataclasses.fields(cls)}
        if wrong := [key for key, value in form.items() if key in types and not _fits(value, types[key])]:
            raise TypeError(f"{wrong[0]} is not of its kind")
        return cls(**{key: value for key, value in form.items() if key in types})


def _fits(value: Any, annotation: str) -> bool:
    """Whether a value is of the kind that an annotation says: a list of mappings, a mapping, or neither."""
    if value is None:
        return "None" in annotation
    if annotation.startswith("list["):
        return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)
    if annotation.startswith(("Mapping[", "dict[")):
        return isinstance(value, Mapping)
    return not isinstance(value, list | Mapping)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measured number; ``baseline`` is the same of the model compared with.

    One that is not finite is no value: it would pass every limit, and JSON has none.
    """

    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("value", "baseline"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                object.__setattr__(self, name, None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, without the baseline when there is none."""
        form: dict[str, Any] = {"value": self.value, "unit": self.unit}
        if self.baseline is not None:
            form["baseline"] = self.baseline
        if self.details:
            form["details"] = dict(self.details)
        return form


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """What ``evaluate`` found: the model, the data, the machine, the numbers."""

    model: str
    architecture: str
    samples: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    machine: Mapping[str, Any]
    baseline: str | None = None
    baseline_fingerprint: str | None = None
    """By which the baseline's weights are known again."""
    dataset: Mapping[str, Any] | None = None
    """What a hub calls the data: its ``id``, ``task`` and ``revision``."""
    date: str = ""
    """The day, ISO 8601."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        form = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        form["metrics"] = {name: metric.to_dict() for name, metric in self.metrics.items()}
        return form
