"""Reports of single steps: what a step changed, what it kept and why, and its description for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from sottovoce.report.fields import Count, Facts, Measured, Number, Record, number_or_none, to_form
from sottovoce.report.number_format import counted
from sottovoce.text.plain_text import one_line
from sottovoce.text.translations import Text

_LONGEST = 1000
HELD_OUT_DISAGREEMENT = "held_out_disagreement"
"""Key of a step's details: names of the layers whose fit does not hold on samples that were held out of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept(Record):
    """A part of the model that stays as it was."""

    name: str
    parameters: Count
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Target(Record):
    """A module that a step changes."""

    name: str
    parameters: Count
    """Elements that change; a bias that stays float is not among them."""
    bits: Measured = None
    """Bits of a stored weight, its share of scales and zero points included."""
    width: Count | None = None
    """Bits of a stored weight alone. ``None`` in files of earlier versions, whose integers had 4 or 8."""
    snr_db: Measured = None
    """Signal-to-noise ratio of the weight, in dB."""
    output_error: Measured = None
    """Squared error of the layer's output on the calibration samples, as a share of the output's power."""
    rounded_output_error: Measured = None
    """The same, had the weight been rounded to nearest."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what was not measured."""
        return {key: value for key, value in super().to_dict().items() if value is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Part(Record):
    """Parameters of one part of the model (an encoder, say)."""

    parameters: Count
    compressed_parameters: Count


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage(Record):
    """Compressed parameters of a model, by part."""

    parameters: Count
    compressed_parameters: Count
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

    def without(self, part_of: Callable[[str], str], targets: Iterable[Target]) -> Coverage:
        """Return the coverage when some of the targets are as they were before the step."""
        restored: dict[str, int] = {}
        for target in targets:
            part = part_of(target.name)
            restored[part] = restored.get(part, 0) + target.parameters
        parts = {
            name: replace(part, compressed_parameters=part.compressed_parameters - restored.get(name, 0))
            for name, part in self.parts.items()
        }
        compressed = self.compressed_parameters - sum(restored.values())
        return replace(self, compressed_parameters=compressed, parts=parts)

    @classmethod
    def _keys(cls) -> tuple[str, ...]:
        return (*super()._keys(), "ratio")

    def __getitem__(self, key: str) -> Any:
        """Return a field, or the ratio to six digits."""
        return round(self.ratio, 6) if key == "ratio" else super().__getitem__(key)


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Text.model_validate(value)
    return value if isinstance(value, str | Text) else number_or_none(value)


Cell = Annotated[str | Text | float | None, PlainValidator(_cell)]
"""Content of a cell of a step's table."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Column(Record):
    """One column of a step's table."""

    label: Text
    format: Literal["text", "name", "number", "percent"] = "text"
    """``name`` is a module or a setting, ``percent`` a share of 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table(Record):
    """A table that a step has for its report and the model card."""

    title: Text
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure(Record):
    """A picture that a step wrote beside the weights."""

    file: str
    label: Text


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StepReport(Record):
    """Changes that one step of a recipe really made."""

    step: Facts
    targets: tuple[Target, ...] = ()
    kept: tuple[Kept, ...] = ()
    coverage: Coverage | None = None
    seconds: Number = 0.0
    timing: Mapping[str, Number] = field(default_factory=dict)
    """Seconds of the parts of the work, when they were taken apart."""
    notes: tuple[str, ...] = ()
    details: Facts = field(default_factory=dict)
    """Facts that only steps of this kind have, in the form of JSON."""
    summary: Text | None = None
    """One sentence on what the step did; from :meth:`sottovoce.Step.summary`."""
    tags: tuple[str, ...] = ()
    """Tags of the model card; from :meth:`sottovoce.Step.tags`."""
    effect: Text | None = None
    """Fate of the parameters that its coverage counts, such as ``removed``; ``compressed`` where it is unset."""
    tables: tuple[Table, ...] = ()
    """Tables for the model card; from :meth:`sottovoce.Step.tables`."""
    figures: tuple[Figure, ...] = ()
    """Pictures for the model card; from :meth:`sottovoce.Step.figures`."""

    def __repr__(self) -> str:
        """Return what identifies the report, on one line: a model has hundreds of layers."""
        changed, kept = counted(len(self.targets), "layer"), counted(len(self.kept), "part")
        return one_line(f"<StepReport of {self.name}: {changed} changed, {kept} kept>", _LONGEST)

    @property
    def name(self) -> str:
        """Name of the step in a recipe."""
        return str(self.step.get("step", ""))

    @property
    def disagreeing(self) -> tuple[str, ...]:
        """Names of the layers whose fit does not hold on samples that were held out of it."""
        names = self.details.get(HELD_OUT_DISAGREEMENT, ())
        return tuple(map(str, names)) if isinstance(names, list | tuple) else ()

    @property
    def by_width(self) -> dict[int, list[Target]]:
        """Layers by the bits of a weight without its share of scales and zero points, the fewest first."""
        groups: dict[int, list[Target]] = {}
        for target in self.targets:
            if target.bits is not None:
                width = target.width or (4 if target.bits < 8 else 8 if target.bits < 16 else 16)
                groups.setdefault(width, []).append(target)
        return dict(sorted(groups.items()))

    def with_restored(self, bits: Mapping[str, float | None], part_of: Callable[[str], str], reason: str) -> StepReport:
        """Return the report after layers were restored to higher precision.

        Args:
            bits: Bits of a stored weight by the layer's name; ``None`` for a layer that is float again.
            part_of: Function from a layer's name to its part of the model.
            reason: Reason why float layers are kept.
        """
        restored = [target for target in self.targets if target.name in bits]
        if self.coverage is None or not restored:
            return self
        floats = [target for target in restored if bits[target.name] is None]
        names = {target.name for target in floats}
        # The new weights were not measured.
        targets = tuple(
            Target(name=target.name, parameters=target.parameters, bits=bits[target.name])
            if target.name in bits
            else target
            for target in self.targets
            if target.name not in names
        )
        kept = [Kept(name=target.name, parameters=target.parameters, reason=reason) for target in floats]
        coverage = self.coverage.without(part_of, floats)
        return replace(self, targets=targets, kept=(*self.kept, *kept), coverage=coverage)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; what is only for people is left out where there is none."""
        optional = ("details", "summary", "tags", "effect", "tables", "figures")
        return {key: to_form(self[key]) for key in self if key not in optional or self[key]}
