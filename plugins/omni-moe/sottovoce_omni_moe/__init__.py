"""Sottovoce's plugin for Qwen3-Omni's mixture of experts (``Qwen3OmniMoeForConditionalGeneration`` of transformers)."""

from __future__ import annotations

from collections.abc import Iterable

import sottovoce
from sottovoce import Architecture
from sottovoce_omni_moe import engines as engines  # registers the engines
from sottovoce_omni_moe import onnx_format as onnx_format  # registers the format


@sottovoce.hookimpl
def sottovoce_architectures() -> Iterable[Architecture]:
    """Describe Qwen3-Omni; core's own code for transformers loads and saves it."""
    from sottovoce_omni_moe.architectures import ARCHITECTURES

    return ARCHITECTURES
