"""Publishing of compressed models: card, push and pull, on the Hugging Face Hub and on ModelScope."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "publication": ("PushReport", "push"),
    "retrieval": ("PullReport", "pull"),
    "variants": ("VariantsReport", "push_variants"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["PullReport", "PushReport", "VariantsReport", "pull", "push", "push_variants"]


def __getattr__(name: str) -> Any:
    # Names are imported on first use, so that `import sottovoce_hub` costs nothing.
    if name not in _MODULES:
        raise AttributeError(f"module 'sottovoce_hub' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sottovoce_hub.{_MODULES[name]}"), name)
