"""Sottovoce's plugin for Qwen3-Omni's mixture of experts (``Qwen3OmniMoeForConditionalGeneration`` of transformers)."""

from __future__ import annotations

from collections.abc import Iterable

import sottovoce
from sottovoce import Architecture


@sottovoce.hookimpl
def sottovoce_architectures() -> Iterable[Architecture]:
    """Qwen3-Omni; it is loaded and saved by core's own code for transformers."""
    from sottovoce_omni_moe.architectures import ARCHITECTURES

    return ARCHITECTURES
