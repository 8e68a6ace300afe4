"""The filter banks by PyTorch give the texts that FunASR's own features give, on recordings of the bundled data."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from funasr.utils.load_utils import extract_fbank
from torch import Tensor

import sottovoce
from sottovoce.system.audio import read_audio
from sottovoce_paraformer import transcription

ROOT = Path(__file__).parents[3]
DATA = ROOT / "examples" / "data" / "mandarin-commands"
CLIPS = [DATA / json.loads(line)["source"] for line in (DATA / "test.jsonl").read_text(encoding="utf-8").splitlines()]

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's own


@pytest.fixture(scope="module", params=["float", "int8"])
def model(request: pytest.FixtureRequest) -> sottovoce.Model:
    model = sottovoce.load(ROOT / "examples" / "models" / "tiny-paraformer")
    if request.param != "float":
        sottovoce.compress(model, request.param)
    return model


def funasrs_features(frontend: Any, waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the features by FunASR's own front end, without dither."""
    frontend = copy.copy(frontend)
    frontend.dither = 0.0
    padded, lengths = extract_fbank(list(waveforms), data_type="sound", frontend=frontend)
    return padded, lengths


def texts(model: sottovoce.Model, clips: Sequence[Path]) -> list[str]:
    return [sottovoce.transcribe(model, clip).text for clip in clips]


def test_features_of_recordings_are_funasrs(model: sottovoce.Model) -> None:
    frontend = model.processor["frontend"]
    for clip in CLIPS[::20]:
        waveform = torch.from_numpy(read_audio(clip))
        actual, lengths = transcription.features(frontend, [waveform])
        expected, expected_lengths = funasrs_features(frontend, [waveform])
        assert lengths.tolist() == expected_lengths.tolist()
        torch.testing.assert_close(actual, expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("clips", "near_ties"), [(CLIPS[::10], 1), pytest.param(CLIPS, 4, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_texts_are_those_of_funasrs_features(
    clips: list[Path], near_ties: int, model: sottovoce.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text may differ here and there: rounding decides where two characters are as likely as each other."""
    actual = texts(model, clips)
    monkeypatch.setattr(transcription, "features", funasrs_features)
    expected = texts(model, clips)
    assert sum(map(bool, actual)) > len(clips) // 2
    assert sum(text != other for text, other in zip(actual, expected, strict=True)) <= near_ties
