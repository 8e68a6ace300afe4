"""Sottovoce's plugin for Qwen3-ForcedAligner (``Qwen3ASRForTokenClassification`` of transformers)."""

from __future__ import annotations

from collections.abc import Iterable

import sottovoce
from sottovoce import Architecture


@sottovoce.hookimpl
def sottovoce_architectures() -> Iterable[Architecture]:
    """The forced aligner; it is loaded and saved by core's own code for transformers."""
    from sottovoce_forced_aligner.architectures import ARCHITECTURES

    return ARCHITECTURES
