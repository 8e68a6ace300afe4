"""The omni model does what every plugin's models must do."""

from __future__ import annotations

from pathlib import Path

from plugins.omni_moe.tiny import make_model
from sottovoce.testing import Conformance


class TestOmniMoe(Conformance):
    architecture = "qwen3-omni-moe"
    calibration = Path(__file__).with_name("calibration.jsonl")

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_model(directory)
