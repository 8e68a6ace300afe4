"""Sottovoce makes speech and multimodal models small: load, compress, export, evaluate."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture as Architecture
    from sottovoce.architecture import CardFacts as CardFacts
    from sottovoce.architecture import Depth as Depth
    from sottovoce.architecture import Heads as Heads
    from sottovoce.architecture import Layers as Layers
    from sottovoce.architecture import Match as Match
    from sottovoce.architecture import Runner as Runner
    from sottovoce.architecture import ScalePair as ScalePair
    from sottovoce.architecture import Shape as Shape
    from sottovoce.architecture import Training as Training
    from sottovoce.architecture import TrainingOutputs as TrainingOutputs
    from sottovoce.architecture import Width as Width
    from sottovoce.architecture import lazy as lazy
    from sottovoce.calibration.block_step import BlockStep as BlockStep
    from sottovoce.engines.engine import Engine as Engine
    from sottovoce.entrypoints.check import check as check
    from sottovoce.entrypoints.compare import compare as compare
    from sottovoce.entrypoints.compress import compress as compress
    from sottovoce.entrypoints.compress import from_pretrained as from_pretrained
    from sottovoce.entrypoints.diff import diff as diff
    from sottovoce.entrypoints.evaluate import evaluate as evaluate
    from sottovoce.entrypoints.export import export as export
    from sottovoce.entrypoints.inspect import inspect as inspect
    from sottovoce.entrypoints.load import load as load
    from sottovoce.entrypoints.save import save as save
    from sottovoce.entrypoints.search import search as search
    from sottovoce.entrypoints.transcribe import transcribe as transcribe
    from sottovoce.errors import SottovoceError as SottovoceError
    from sottovoce.formats.format import Format as Format
    from sottovoce.metrics.kinds import MetricKind as MetricKind
    from sottovoce.model import Model as Model
    from sottovoce.plugins.hookspecs import hookimpl as hookimpl
    from sottovoce.quantization.method import Method as Method
    from sottovoce.quantization.method import method as method
    from sottovoce.quantization.step import Quantize as Quantize
    from sottovoce.recipe.recipe import Recipe as Recipe
    from sottovoce.recipe.step import Step as Step
    from sottovoce.recipe_search.result import SearchResult as SearchResult
    from sottovoce.report import Comparison as Comparison
    from sottovoce.report import CompressionReport as CompressionReport
    from sottovoce.report import Coverage as Coverage
    from sottovoce.report import EvaluationReport as EvaluationReport
    from sottovoce.report import Kept as Kept
    from sottovoce.report import Metric as Metric
    from sottovoce.report import StepReport as StepReport
    from sottovoce.report import Target as Target
    from sottovoce.samples import Prediction as Prediction
    from sottovoce.samples import Run as Run
    from sottovoce.samples import Sample as Sample
    from sottovoce.samples import Samples as Samples
    from sottovoce.samples import read_samples as read_samples
    from sottovoce.source import LoadOptions as LoadOptions
    from sottovoce.source import Repository as Repository
    from sottovoce.source import Source as Source
    from sottovoce.system.audio import read_audio as read_audio
    from sottovoce.text.translations import Text as Text
    from sottovoce.transcription.transcriber import Transcriber as Transcriber
    from sottovoce.transcription.transcript import Recognition as Recognition
    from sottovoce.transcription.transcript import Segment as Segment
    from sottovoce.transcription.transcript import SpeakerTurn as SpeakerTurn
    from sottovoce.transcription.transcript import Transcript as Transcript
    from sottovoce.transcription.transcript import Word as Word

__version__ = "0.1.0"

_MODULES = {
    "Architecture": "architecture",
    "BlockStep": "calibration.block_step",
    "CardFacts": "architecture",
    "Comparison": "report",
    "CompressionReport": "report",
    "Coverage": "report",
    "Depth": "architecture",
    "Engine": "engines.engine",
    "EvaluationReport": "report",
    "Format": "formats.format",
    "Heads": "architecture",
    "Kept": "report",
    "Layers": "architecture",
    "Match": "architecture",
    "LoadOptions": "source",
    "Method": "quantization.method",
    "Metric": "report",
    "MetricKind": "metrics.kinds",
    "Model": "model",
    "Prediction": "samples",
    "Quantize": "quantization.step",
    "Recipe": "recipe.recipe",
    "Recognition": "transcription.transcript",
    "Repository": "source",
    "Run": "samples",
    "Runner": "architecture",
    "Sample": "samples",
    "Samples": "samples",
    "ScalePair": "architecture",
    "SearchResult": "recipe_search.result",
    "Segment": "transcription.transcript",
    "Shape": "architecture",
    "SottovoceError": "errors",
    "Source": "source",
    "SpeakerTurn": "transcription.transcript",
    "Step": "recipe.step",
    "StepReport": "report",
    "Target": "report",
    "Text": "text.translations",
    "Training": "architecture",
    "TrainingOutputs": "architecture",
    "Transcriber": "transcription.transcriber",
    "Transcript": "transcription.transcript",
    "transcribe": "entrypoints.transcribe",
    "Width": "architecture",
    "Word": "transcription.transcript",
    "check": "entrypoints.check",
    "compare": "entrypoints.compare",
    "compress": "entrypoints.compress",
    "diff": "entrypoints.diff",
    "evaluate": "entrypoints.evaluate",
    "export": "entrypoints.export",
    "from_pretrained": "entrypoints.compress",
    "hookimpl": "plugins.hookspecs",
    "inspect": "entrypoints.inspect",
    "lazy": "architecture",
    "load": "entrypoints.load",
    "method": "quantization.method",
    "read_audio": "system.audio",
    "read_samples": "samples",
    "save": "entrypoints.save",
    "search": "entrypoints.search",
}
"""Public names with the modules that define them."""

__all__ = tuple(_MODULES)


def __getattr__(name: str) -> Any:
    # Names are imported on first use, so that `import sottovoce` costs nothing.
    if name not in _MODULES:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sottovoce.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return ["__version__", *__all__]
