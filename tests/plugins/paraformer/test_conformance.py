"""Every class of the family does what every plugin's models must do."""

from __future__ import annotations

from pathlib import Path

from plugins.few_presets import FewPresets
from plugins.paraformer.tiny import make_model
from plugins.paraformer.tiny_companions import make_punctuation, make_voice_activity
from sottovoce.testing import Conformance

SPEECH = Path(__file__).parents[2] / "calibration.jsonl"


class TestParaformer(Conformance):
    architecture = "paraformer"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_model(directory, "Paraformer")


class TestBiCifParaformer(FewPresets):
    architecture = "paraformer"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_model(directory, "BiCifParaformer")


class TestSeacoParaformer(FewPresets):
    architecture = "paraformer"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_model(directory, "SeacoParaformer")


class TestContextualParaformer(FewPresets):
    architecture = "paraformer"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        # With other weights a character more or less fires at the slightest change.
        make_model(directory, "ContextualParaformer", seed=1)


class TestVoiceActivity(Conformance):
    architecture = "fsmn-vad"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_voice_activity(directory)


class TestPunctuation(Conformance):
    architecture = "ct-punc"
    calibration = SPEECH

    @classmethod
    def make_model(cls, directory: Path) -> None:
        make_punctuation(directory)
