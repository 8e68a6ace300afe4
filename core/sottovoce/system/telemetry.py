"""Opt-out of the telemetry of libraries."""

from __future__ import annotations

import os

VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Environment variables that onnxruntime and the Hugging Face Hub's client read while they are imported."""


def forbid() -> None:
    """Turn telemetry off before a library is imported; the user's settings stay.

    onnxruntime resolves its maker's host soon after it is imported, offline or not, and honors only this variable.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
