"""The result of a comparison of models, which lies in its directory as ``comparison.json`` and inside the page."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from sottovoce.report import number_format
from sottovoce.report.evaluation import named_metrics
from sottovoce.report.facts import Machine, SampleSet
from sottovoce.report.fields import Count, Measured, Number, Record
from sottovoce.report.metric import Metric
from sottovoce.report.paired_test import Interval, PairedTest
from sottovoce.report.problems import validation_problem
from sottovoce.text.plain_text import one_line

COMPARISON_FILE = "comparison.json"
COMPARISON_VERSION = 1
"""Number of the schema."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerError(Record):
    """Error of one layer, as the compression measured it."""

    name: str
    bits: Measured = None
    snr_db: Measured = None
    """Signal-to-noise ratio of the weight, in dB."""
    output_error: Measured = None
    """Squared error of the layer's output on the calibration samples, as a share of the output's power."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what was not measured."""
        return {key: value for key, value in super().to_dict().items() if value is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedModel(Record):
    """One of the models, and all that was measured of it."""

    name: str
    size_bytes: Count
    metrics: Annotated[Mapping[str, Metric], BeforeValidator(named_metrics)]
    is_reference: bool = False
    """True for the model that the others are compared with."""
    recipe: str | None = None
    """Name of the preset or the recipe's file."""
    steps: tuple[str, ...] = ()
    """One sentence on each step of its compression."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Confidence intervals by metric."""
    tests: Mapping[str, PairedTest] = field(default_factory=dict)
    """Comparisons with the reference model by metric."""
    parts: Mapping[str, Count] = field(default_factory=dict)
    """Bytes of the weights by part of the model."""
    layers: tuple[LayerError, ...] = ()
    """Layers with the largest errors, in the order of the model."""
    layers_left_out: Count = 0
    """Layers with smaller errors, which are not listed."""
    compression_seconds: Measured = None
    command: str | None = None
    """Command that makes the model."""
    changed: Count = 0
    """Samples whose output differs from the reference model's."""
    trained_on: Count = 0
    """Number of the samples that the model was trained on, as far as is known."""
    cut_off: Count = 0
    """Number of outputs that end at the model's limit of tokens, unfinished."""

    def __repr__(self) -> str:
        """Return what identifies the model, on one line."""
        return one_line(f"<ComparedModel {self.name}: {number_format.size(self.size_bytes)}>", 1000)


@dataclass(frozen=True, kw_only=True, eq=False)
class LeftOut(Record):
    """A recipe that was not tried, with the reason."""

    name: str
    reason: str
    size_bytes: Count | None = None
    """Size of the weights that the model would have."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Output(Record):
    """Output of one model for a sample."""

    text: str | None = None
    edits: tuple[tuple[str, str, str], ...] = ()
    """Operations that make it of the reference: ``=``, ``substitute``, ``delete`` or ``insert``, with both texts."""
    error: Measured = None
    """Value of the deciding metric for this sample alone."""
    times: tuple[tuple[Number, Number], ...] = ()
    """Start and end of each word, in seconds, where that is what differs."""
    cut_off: bool = False
    """True if the text ends at the model's limit of tokens, unfinished."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what there is not."""
        form = {key: value for key, value in super().to_dict().items() if value not in (None, [])}
        return form if self.cut_off else {key: value for key, value in form.items() if key != "cut_off"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance(Record):
    """A sample whose output is not the same with every model."""

    key: str
    reference: str | None = None
    """Text of the manifest; without one, that of the reference model."""
    language: str | None = None
    modality: str = ""
    seconds: Number = 0.0
    words: tuple[str, ...] = ()
    """Words of the reference, where times are compared."""
    times: tuple[tuple[Number, Number], ...] = ()
    """True times of the words."""
    outputs: Mapping[str, Output] = field(default_factory=dict)
    """Outputs by model."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what there is not."""
        return {key: value for key, value in super().to_dict().items() if value not in (None, [], "")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison(Record):
    """Models on the same samples: what each costs, how well it works, and which one to take."""

    models: tuple[ComparedModel, ...]
    samples: SampleSet
    architecture: str
    machine: Machine
    title: str = ""
    heading: str = "Comparison"
    """Kind of the work, as the page says it: ``Comparison`` or ``Evaluation``."""
    metric: str | None = None
    """Name of the metric that decides."""
    winner: str | None = None
    """Model that the rule gives; ``None`` where it gives none."""
    rule: str = ""
    """Rule by which it was chosen, in a sentence."""
    verdict: str = ""
    """Result of the rule, in a sentence."""
    left_out: tuple[LeftOut, ...] = ()
    """Recipes that were not tried."""
    max_size_bytes: Count | None = None
    utterances: tuple[Utterance, ...] = ()
    """Samples whose outputs differ, the largest differences first."""
    utterances_left_out: Count = 0
    """Further samples whose outputs differ."""
    notes: tuple[str, ...] = ()
    date: str = ""
    """Day of the measurement, ISO 8601."""
    version: Count = COMPARISON_VERSION
    """Number of the schema."""

    @classmethod
    def from_dict(cls, form: Any) -> Comparison:
        """Read what :meth:`to_dict` wrote; keys of later versions are ignored.

        Raises:
            ValueError: A field is missing, or its value is of another kind than is written; the message names it.
        """
        try:
            return _adapter().validate_python(form)
        except ValidationError as error:
            raise ValueError(validation_problem(error)) from None

    @property
    def reference(self) -> ComparedModel:
        """The model that the others are compared with."""
        return next((model for model in self.models if model.is_reference), self.models[0])

    def model(self, name: str) -> ComparedModel:
        """Return the model of a name."""
        return next(model for model in self.models if model.name == name)

    def __str__(self) -> str:
        """Return the verdict."""
        return self.verdict

    def __repr__(self) -> str:
        """Return what identifies the comparison, on one line."""
        return f"<Comparison of {', '.join(model.name for model in self.models)}: {self.winner or 'no winner'}>"


@functools.cache
def _adapter() -> TypeAdapter[Comparison]:
    return TypeAdapter(Comparison)
