"""The aligner does what every plugin's models must do, in both layouts."""

from __future__ import annotations

from pathlib import Path

from plugins.few_presets import FewPresets
from plugins.forced_aligner.tiny import make_model, make_original
from sottovoce.testing import Conformance

SPEECH = Path(__file__).parents[2] / "calibration.jsonl"


class TestForcedAligner(Conformance):
    architecture = "qwen3-forced-aligner"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_model(directory)


class TestOriginalLayout(FewPresets):
    architecture = "qwen3-forced-aligner"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        other = directory.parent / "transformers"
        make_model(other)
        make_original(directory, other)
        for path in sorted(other.iterdir()):
            path.unlink()
        other.rmdir()
