"""Sottovoce makes speech and multimodal models small: load, compress, export, evaluate."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture, CardFacts, Layers, Runner, ScalePair, lazy
    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.entrypoints.compress import compress, from_pretrained
    from sottovoce.entrypoints.evaluate import evaluate
    from sottovoce.entrypoints.inspect import inspect
    from sottovoce.entrypoints.load import load
    from sottovoce.entrypoints.save import export, save
    from sottovoce.errors import SottovoceError
    from sottovoce.formats.format import Format
    from sottovoce.metrics.kinds import MetricKind
    from sottovoce.model import LoadOptions, Model, Repository, Source
    from sottovoce.plugins.hookspecs import hookimpl
    from sottovoce.quantization.method import Method, method
    from sottovoce.quantization.step import Quantize
    from sottovoce.recipe.recipe import Recipe
    from sottovoce.recipe.step import Step
    from sottovoce.report import CompressionReport, Coverage, EvaluationReport, Kept, Metric, StepReport, Target
    from sottovoce.samples import Prediction, Run, Sample, Samples, read_samples
    from sottovoce.system.audio import read_audio
    from sottovoce.text.translations import Text

__version__ = "0.1.0"

_EXPORTS = {
    "architecture": ("Architecture", "CardFacts", "Layers", "Runner", "ScalePair", "lazy"),
    "system.audio": ("read_audio",),
    "errors": ("SottovoceError",),
    "calibration.block_step": ("BlockStep",),
    "entrypoints.evaluate": ("evaluate",),
    "formats.format": ("Format",),
    "quantization.method": ("Method", "method"),
    "text.translations": ("Text",),
    "plugins.hookspecs": ("hookimpl",),
    "entrypoints.inspect": ("inspect",),
    "entrypoints.load": ("load",),
    "metrics.kinds": ("MetricKind",),
    "model": ("LoadOptions", "Model", "Repository", "Source"),
    "entrypoints.compress": ("compress", "from_pretrained"),
    "quantization.step": ("Quantize",),
    "recipe.recipe": ("Recipe",),
    "recipe.step": ("Step",),
    "report": ("CompressionReport", "Coverage", "EvaluationReport", "Kept", "Metric", "StepReport", "Target"),
    "samples": ("Prediction", "Run", "Sample", "Samples", "read_samples"),
    "entrypoints.save": ("export", "save"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "Architecture",
    "BlockStep",
    "CardFacts",
    "CompressionReport",
    "Coverage",
    "EvaluationReport",
    "Format",
    "Kept",
    "Layers",
    "LoadOptions",
    "Method",
    "Metric",
    "MetricKind",
    "Model",
    "Prediction",
    "Quantize",
    "Recipe",
    "Repository",
    "Run",
    "Runner",
    "Sample",
    "Samples",
    "ScalePair",
    "SottovoceError",
    "Source",
    "Step",
    "StepReport",
    "Target",
    "Text",
    "compress",
    "evaluate",
    "export",
    "from_pretrained",
    "hookimpl",
    "inspect",
    "lazy",
    "load",
    "method",
    "read_audio",
    "read_samples",
    "save",
]


def __getattr__(name: str) -> Any:
    # Names are imported on first use, so that `import sottovoce` costs nothing.
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sottovoce.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value
