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
from sottovoce import Architecture, LoadOptions, Model, Source

if TYPE_CHECKING:
    from sottovoce_forced_aligner.aligner import align
    from sottovoce_forced_aligner.alignment import Alignment, Word

__all__ = ["Alignment", "Word", "align"]

_HOME_OF = {"Alignment": "alignment", "Word": "alignment", "align": "aligner"}


def __getattr__(name: str) -> Any:
    # Describing the family must not import torch.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


@sottovoce.hookimpl
def sottovoce_architectures() -> Iterable[Architecture]:
    """The forced aligner, in the layout of transformers and in that of qwen-asr."""
    from sottovoce_forced_aligner.architectures import ARCHITECTURES

    return ARCHITECTURES


@sottovoce.hookimpl
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """The layout of qwen-asr; that of transformers is left to core's own loader."""
    from sottovoce_forced_aligner.original import load

    return load(source, architecture, options)
