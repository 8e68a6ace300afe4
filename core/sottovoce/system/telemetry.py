"""What libraries tell their makers about their use: nothing, where we import them."""

from __future__ import annotations

import os

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Settings that are read while onnxruntime and the Hugging Face Hub's client are imported."""


def forbid() -> None:
    """Turn reports off before a library is imported; what the user has set stays.

    onnxruntime looks its maker's host up soon after it is imported, offline or not, and heeds the variable alone.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
