"""Sottovoce makes speech and multimodal models small: load, compress, export, evaluate."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sottovoce.architecture import Architecture, CardFacts, lazy
    from sottovoce.audio import read_audio
    from sottovoce.errors import SottovoceError
    from sottovoce.evaluation import evaluate
    from sottovoce.hookspecs import hookimpl
    from sottovoce.inspection import inspect
    from sottovoce.loading import load
    from sottovoce.model import LoadOptions, Model, Repository, Source
    from sottovoce.pipeline import compress, from_pretrained
    from sottovoce.recipe import Quantize, Recipe, Step
    from sottovoce.report import CompressionReport, Coverage, EvaluationReport, Kept, Metric, StepReport, Target
    from sottovoce.samples import Prediction, Run, Sample, Samples, read_samples
    from sottovoce.saving import export, save

__version__ = "0.1.0"

_HOMES = {
    "architecture": ("Architecture", "CardFacts", "lazy"),
    "audio": ("read_audio",),
    "errors": ("SottovoceError",),
    "evaluation": ("evaluate",),
    "hookspecs": ("hookimpl",),
    "inspection": ("inspect",),
    "loading": ("load",),
    "model": ("LoadOptions", "Model", "Repository", "Source"),
    "pipeline": ("compress", "from_pretrained"),
    "recipe": ("Quantize", "Recipe", "Step"),
    "report": ("CompressionReport", "Coverage", "EvaluationReport", "Kept", "Metric", "StepReport", "Target"),
    "samples": ("Prediction", "Run", "Sample", "Samples", "read_samples"),
    "saving": ("export", "save"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Architecture", "CardFacts", "CompressionReport", "Coverage", "EvaluationReport", "Kept", "LoadOptions", "Metric",
    "Model", "Prediction", "Quantize", "Recipe", "Repository", "Run", "Sample", "Samples", "SottovoceError", "Source",
    "Step", "StepReport", "Target", "compress", "evaluate", "export", "from_pretrained", "hookimpl", "inspect", "lazy",
    "load", "read_audio", "read_samples", "save",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Names are imported on first use, so that `import sottovoce` costs nothing.
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sottovoce.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
