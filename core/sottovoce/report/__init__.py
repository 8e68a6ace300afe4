"""Reports: what was done to a model and what it measures; the one schema of ``compression.json``."""

from __future__ import annotations

from sottovoce.report.comparison import (
    COMPARISON_FILE,
    ComparedModel,
    Comparison,
    LayerError,
    LeftOut,
    Output,
    Utterance,
)
from sottovoce.report.compression import COMPRESSION_FILE, SCHEMA_VERSION, CompressionReport
from sottovoce.report.evaluation import EvaluationReport
from sottovoce.report.explanation import Explanation, RestoredUnit
from sottovoce.report.exported import EngineReport, ExportReport
from sottovoce.report.facts import (
    REPOSITORY,
    BaseModel,
    Dataset,
    Family,
    License,
    Machine,
    ParameterBits,
    SampleSet,
    Sizes,
)
from sottovoce.report.fields import Record, to_form, to_json
from sottovoce.report.gate import GateReport, RestoredLayer
from sottovoce.report.metric import Metric, Spread, Turns
from sottovoce.report.paired_test import Interval, PairedTest
from sottovoce.report.step import (
    HELD_OUT_DISAGREEMENT,
    Column,
    Coverage,
    Figure,
    Kept,
    Part,
    StepReport,
    Table,
    Target,
)

__all__ = [
    "COMPARISON_FILE",
    "COMPRESSION_FILE",
    "HELD_OUT_DISAGREEMENT",
    "REPOSITORY",
    "SCHEMA_VERSION",
    "BaseModel",
    "Column",
    "ComparedModel",
    "Comparison",
    "CompressionReport",
    "Coverage",
    "Dataset",
    "EngineReport",
    "EvaluationReport",
    "Explanation",
    "ExportReport",
    "Family",
    "Figure",
    "GateReport",
    "Interval",
    "Kept",
    "LayerError",
    "LeftOut",
    "License",
    "Machine",
    "Metric",
    "Output",
    "PairedTest",
    "ParameterBits",
    "Part",
    "Record",
    "RestoredLayer",
    "RestoredUnit",
    "SampleSet",
    "Sizes",
    "Spread",
    "StepReport",
    "Table",
    "Target",
    "Turns",
    "Utterance",
    "to_form",
    "to_json",
]
