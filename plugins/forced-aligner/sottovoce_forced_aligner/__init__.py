"""Sottovoce's plugin for Qwen3-ForcedAligner (``Qwen3ASRForTokenClassification`` of transformers).

``align`` finds the words of a transcript in audio of any length::

    import sottovoce
    from sottovoce_forced_aligner import align

    model = sottovoce.load("Qwen/Qwen3-ForcedAligner-0.6B")
    print(align(model, "talk.wav", "what was said", language="English").to_srt())
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sottovoce
from sottovoce import Architecture, LoadOptions, Metric, Model, Run, Samples, Source, Word
from sottovoce_forced_aligner import boundaries  # which declares the metrics
from sottovoce_forced_aligner import engines as engines  # registers the engines
from sottovoce_forced_aligner import executorch_format as executorch_format
from sottovoce_forced_aligner import onnx_format as onnx_format  # registers the format
from sottovoce_forced_aligner import openvino_format as openvino_format
from sottovoce_forced_aligner import tensorrt_format as tensorrt_format
from sottovoce_forced_aligner import torch_export_format as torch_export_format

if TYPE_CHECKING:
    from click import Command

    from sottovoce_forced_aligner.aligner import align
    from sottovoce_forced_aligner.alignment import Alignment

__all__ = ["Alignment", "Word", "align"]

_HOME_OF = {"Alignment": "alignment", "align": "aligner"}


def __getattr__(name: str) -> Any:
    # Describing the family must not import torch.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


@sottovoce.hookimpl
def sottovoce_architectures() -> Iterable[Architecture]:
    """Describe the forced aligner, in the layout of transformers and in that of qwen-asr."""
    from sottovoce_forced_aligner.architectures import ARCHITECTURES

    return ARCHITECTURES


@sottovoce.hookimpl
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """Load the layout of qwen-asr; that of transformers is left to core's own loader."""
    from sottovoce_forced_aligner.qwen_asr_layout import load

    return load(source, architecture, options)


@sottovoce.hookimpl
def sottovoce_evaluate(samples: Samples, run: Run, baseline: Run | None) -> Iterable[Metric]:
    """Compare the times of the words with the references and with the baseline's."""
    return boundaries.measure(samples, run, baseline)


@sottovoce.hookimpl
def sottovoce_commands() -> Iterable[Command]:
    """Return ``sottovoce align``."""
    from sottovoce_forced_aligner import commands

    return [commands.align]
