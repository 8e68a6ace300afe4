"""The report of a compression, which lies beside the weights as ``compression.json``."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sottovoce.report import number_format
from sottovoce.report.evaluation import EvaluationReport
from sottovoce.report.exported import ExportReport
from sottovoce.report.facts import BaseModel, Family, ParameterBits, SampleSet, Sizes
from sottovoce.report.fields import Count, Facts, Number, to_form
from sottovoce.report.gate import GateReport
from sottovoce.report.number_format import counted
from sottovoce.report.plain_table import PlainTable
from sottovoce.report.problems import validation_problem
from sottovoce.report.step import Coverage, StepReport, Target
from sottovoce.text.plain_text import one_line

COMPRESSION_FILE = "compression.json"
_LONGEST = 1000
_MOST_NOTES = 5
"""Notes that a table shows."""
SCHEMA_VERSION = 2
"""Number that is written; files of before have none."""


@dataclass(kw_only=True, repr=False)
class CompressionReport:
    """The whole of a compression; beside the weights it is ``compression.json``."""

    recipe: Facts
    architecture: str
    source: BaseModel
    steps: list[StepReport]
    coverage: Coverage
    size_bytes: Sizes
    seconds: Number
    peak_memory_bytes: Count | None
    versions: Mapping[str, str]
    parameter_bits: ParameterBits | None = None
    """Parameters by the bits that they are stored in. ``None`` in files of earlier versions."""
    peak_gpu_memory_bytes: Count | None = None
    """The most memory that PyTorch took on GPUs while it compressed; ``None`` without one."""
    least_memory_bytes: Count | None = None
    """Least memory that the compressed model takes while it runs, beside Python and the libraries."""
    samples: SampleSet | None = None
    gate: GateReport | None = None
    """Limits that were asked for, what was measured, and the layers that were restored to higher precision."""
    output: str | None = None
    recipe_name: str | None = None
    """The preset, or the name of the file, that the recipe was read from."""
    card: Family | None = None
    """Statements of the family's plugin for a model card."""
    evaluations: list[EvaluationReport] = field(default_factory=list)
    """Evaluations of the model as it was saved."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Digests (sha256) of the files that were written, by their names."""
    version: Count = SCHEMA_VERSION
    """Number of the schema."""
    export: ExportReport | None = None
    """Export of the model to another format; ``None`` beside a model in its own library's format."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without ``export`` where nothing was exported."""
        form = {item.name: to_form(getattr(self, item.name)) for item in dataclasses.fields(self)}
        return form if self.export is not None else {key: value for key, value in form.items() if key != "export"}

    def table(self) -> PlainTable:
        """Return the table that printing the report shows."""
        return _tabulate(self)

    def __str__(self) -> str:
        """Return the table."""
        return str(self.table())

    def __repr__(self) -> str:
        """Return what identifies the report, on one line."""
        before, after = map(number_format.size, (self.size_bytes.before, self.size_bytes.after))
        steps = ", ".join(step.name for step in self.steps) or "no step"
        return one_line(f"<CompressionReport of {self.source.name}: {steps}, {before} -> {after}>", _LONGEST)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it."""
        return self.table().to_html()

    @classmethod
    def from_dict(cls, form: Any) -> CompressionReport:
        """Read what :meth:`to_dict` wrote, here or in an earlier version; keys of later versions are ignored.

        Raises:
            ValueError: A field is missing, or its value is of another kind than is written; the message names it.
        """
        versioned = {"version": 1, **form} if isinstance(form, Mapping) else form
        try:
            return _adapter().validate_python(versioned)
        except ValidationError as error:
            raise ValueError(validation_problem(error)) from None

    @property
    def family(self) -> Family:
        """Statements of the family's plugin; empty ones in a report that was never saved."""
        return self.card or Family()

    @property
    def is_by_one_recipe(self) -> bool:
        """True where the recipe is all that was done to the base model."""
        return len(self.recipe.get("steps") or ()) == len(self.steps)

    @property
    def base_bytes(self) -> int | None:
        """Size of the base model's weights; ``None`` after a second recipe, which knows only what it began with."""
        return self.size_bytes.before if self.is_by_one_recipe else None

    @property
    def whole_recipe(self) -> dict[str, Any]:
        """Every step that was applied to the base model, with the gate."""
        if self.is_by_one_recipe:
            return dict(self.recipe)
        gate = {"gate": self.recipe["gate"]} if self.recipe.get("gate") else {}
        return {"steps": [dict(step.step) for step in self.steps], **gate}

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the steps on the model and the samples, each once."""
        return tuple(dict.fromkeys(note for step in self.steps for note in step.notes))

    @property
    def step_names(self) -> frozenset[str]:
        """Names of the steps that were applied."""
        return frozenset(step.name for step in self.steps)


@functools.cache
def _adapter() -> TypeAdapter[CompressionReport]:
    return TypeAdapter(CompressionReport)


def _tabulate(report: CompressionReport) -> PlainTable:
    """Return what a compression did, a fact a row."""
    return PlainTable(report.output or report.source.name, list(_facts(report)), notes=first_notes(report.notes))


def first_notes(notes: Sequence[str]) -> tuple[str, ...]:
    """Return the first of a report's notes, to be shown, and how many more there are."""
    more = len(notes) - _MOST_NOTES
    rest = (f"{counted(more, 'note')} more in compression.json",) if more > 0 else ()
    return (*notes[:_MOST_NOTES], *rest)


def _facts(report: CompressionReport) -> Iterator[tuple[str, str]]:
    before, after = report.size_bytes.before, report.size_bytes.after
    for step in report.steps:
        yield step.name, str(step.summary or "applied")
        yield from _tables(step)
    if report.coverage.parameters:
        yield "compressed", f"{report.coverage.ratio:.1%} of {counted(report.coverage.parameters, 'parameter')}"
    ratio = f" (x {after / before:.2f})" if before else ""
    yield "weights", f"{number_format.size(before)} -> {number_format.size(after)}{ratio}"
    if report.parameter_bits:
        yield "parameters by bits", number_format.bits(report.parameter_bits.before, report.parameter_bits.after)
    yield from _accuracy([target for step in report.steps for target in step.targets])
    if gate := report.gate:
        limits = ", ".join(f"{name} {'-' if value is None else f'{value:.4g}'}" for name, value in gate.found.items())
        yield "gate", f"{limits}; {number_format.counted(len(gate.raised), 'layer')} restored to higher precision"
    yield "time", f"{report.seconds:.1f} s"
    memory: Mapping[str, tuple[int | None, str]] = {
        "peak memory": (report.peak_memory_bytes, ""),
        "peak GPU memory": (report.peak_gpu_memory_bytes, ""),
        "minimum memory to run": (report.least_memory_bytes, ", without libraries"),
    }
    for name, (count, remark) in memory.items():
        if count:
            yield name, f"{number_format.size(count)}{remark}"


def _tables(step: StepReport) -> Iterator[tuple[str, str]]:
    """Yield the short tables that a step brought: a name and a number a row."""
    for table in step.tables:
        if [column.format for column in table.columns[1:]] == ["percent"]:
            cells = (f"{share:.1%} ({name})" for name, share in table.rows if isinstance(share, int | float))
            yield str(table.columns[1].label), ", ".join(cells)


def _accuracy(targets: Sequence[Target]) -> Iterator[tuple[str, str]]:
    """Yield the layers' signal-to-noise ratio and output error, as far as they were measured."""
    ratios = [(target.snr_db, target.name) for target in targets if target.snr_db is not None]
    if ratios:
        least, worst = min(ratios)
        median = statistics.median(ratio for ratio, _ in ratios)
        yield "signal-to-noise ratio", f"median {median:.1f} dB, least {least:.1f} dB ({worst})"
    # Pruned layers have no error of rounding, and one that is of another size.
    errors = [error for target in targets if target.bits is None and (error := target.output_error)]
    if errors:
        yield "output error, pruned", f"mean {statistics.mean(errors):.3%} of a layer's output power"
    pairs = [
        (error, target.rounded_output_error or 0) for target in targets if target.bits if (error := target.output_error)
    ]
    if pairs:
        mean, rounded = (statistics.mean(side) for side in zip(*pairs, strict=True))
        yield "output error", f"mean {mean:.3%} of a layer's output power; rounded to nearest {rounded:.3%}"
