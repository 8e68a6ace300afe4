"""Sottovoce makes speech and multimodal models small: load, compress, export, evaluate."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture, CardFacts, lazy
    from sottovoce.entrypoints.compress import compress, from_pretrained
    from sottovoce.entrypoints.evaluate import evaluate
    from sottovoce.entrypoints.inspect import inspect
    from sottovoce.entrypoints.load import load
    from sottovoce.entrypoints.save import export, save
    from sottovoce.errors import SottovoceError
    from sottovoce.model import LoadOptions, Model, Repository, Source
    from sottovoce.plugins.hookspecs import hookimpl
    from sottovoce.recipe.recipe import Quantize, Recipe, Step
    from sottovoce.report import CompressionReport, Coverage, EvaluationReport, Kept, Metric, StepReport, Target
    from sottovoce.samples import Prediction, Run, Sample, Samples, read_samples
    from sottovoce.system.audio import read_audio

__version__ = "0.1.0"

_HOMES = {
    "architecture": ("Architecture", "CardFacts", "lazy"),
    "system.audio": ("read_audio",),
    "errors": ("SottovoceError",),
    "entrypoints.evaluate": ("evaluate",),
    "plugins.hookspecs": ("hookimpl",),
    "entrypoints.inspect": ("inspect",),
    "entrypoints.load": ("load",),
    "model": ("LoadOptions", "Model", "Repository", "Source"),
    "entrypoints.compress": ("compress", "from_pretrained"),
    "recipe.recipe": ("Quantize", "Recipe", "Step"),
    "report": ("CompressionReport", "Coverage", "EvaluationReport", "Kept", "Metric", "StepReport", "Target"),
    "samples": ("Prediction", "Run", "Sample", "Samples", "read_samples"),
    "entrypoints.save": ("export", "save"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Architecture",
    "CardFacts",
    "CompressionReport",
    "Coverage",
    "EvaluationReport",
    "Kept",
    "LoadOptions",
    "Metric",
    "Model",
    "Prediction",
    "Quantize",
    "Recipe",
    "Repository",
    "Run",
    "Sample",
    "Samples",
    "SottovoceError",
    "Source",
    "Step",
    "StepReport",
    "Target",
    "compress",
    "evaluate",
    "export",
    "from_pretrained",
    "hookimpl",
    "inspect",
    "lazy",
    "load",
    "read_audio",
    "read_samples",
    "save",
]


def __getattr__(name: str) -> Any:
    # Names are imported on first use, so that `import sottovoce` costs nothing.
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sottovoce.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
