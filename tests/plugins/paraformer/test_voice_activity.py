"""Segments of speech are those that FunASR's own detector finds, whatever its settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import sottovoce
from plugins.paraformer.tiny_companions import make_voice_activity
from sottovoce.transcription import functions
from sottovoce_paraformer import voice_activity

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's own

SETTINGS: dict[str, tuple[Any, ...]] = {
    "window_size_ms": (200, 100, 300),
    "sil_to_speech_time_thres": (150, 50, 90),
    "speech_to_sil_time_thres": (150, 50, 90),
    "max_end_silence_time": (800, 200, 400),
    "max_single_segment_time": (60000, 3000, 1000),
    "do_extend": (1, 0),
    "lookback_time_start_point": (200, 0, 700),
    "lookahead_time_end_point": (100, 0, 300),
    "speech_noise_thres": (0.6, 0.2, 0.9),
}


class Loudness(torch.nn.Module):
    """Scores by the mean of the features: silence, and everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = torch.nn.Parameter(torch.tensor(0.4), requires_grad=False)

    def forward(self, features: Tensor, cache: Any = None) -> Tensor:
        speech = torch.sigmoid(3 * (features.mean(-1) - self.loud))
        return torch.stack((1 - speech, speech), -1)


@pytest.fixture
def detector(tmp_path_factory: pytest.TempPathFactory) -> sottovoce.Model:
    model = sottovoce.load(make_voice_activity(tmp_path_factory.mktemp("vad")))
    model.module.encoder = Loudness()
    return model


def bursts(seed: int, seconds: float) -> NDArray[np.float32]:
    """Return noise that is loud and quiet by turns."""
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.choice([0.3, 0.02, 0.001], 400), random.integers(500, 16000, 400))
    loudness = np.resize(loudness, round(seconds * 16000))
    return (random.standard_normal(len(loudness)) * loudness).astype(np.float32)


def funasrs(model: sottovoce.Model, audio: NDArray[np.float32]) -> list[tuple[float, float]]:
    settings = {"kwargs": dict(model.processor), "fs": 16000, "disable_pbar": True, "dynamic_silence": False}
    results = model.native.inference(audio, model=model.module, **settings)
    return [(start / 1000, end / 1000) for start, end in results[0]["value"]]


@pytest.mark.parametrize("seed", range(24))
def test_segments_are_funasrs_with_settings_of_any_kind(detector: sottovoce.Model, seed: int) -> None:
    random = np.random.default_rng(seed)
    for name, values in SETTINGS.items():
        setattr(detector.module.vad_opts, name, values[0 if seed < 4 else random.integers(len(values))])
    audio = bursts(seed, (65.0, 30.0, 12.345, 0.5)[seed % 4])
    found = functions.call(detector, "detect_speech", audio)
    assert found == funasrs(detector, audio)
    assert found or seed >= 4


def test_segments_are_funasrs_at_the_ends_of_its_chunks_of_a_minute(detector: sottovoce.Model) -> None:
    for count in (960000, 960001, 960399, 960400, 960560):
        audio = bursts(count, count / 16000)
        assert functions.call(detector, "detect_speech", audio) == funasrs(detector, audio)


@pytest.mark.parametrize(
    ("options", "processor"),
    [({"decibel_thres": -20.0}, {}), ({"snr_thres": 10.0}, {}), ({"detect_mode": 0}, {}), ({}, {"chunk_size": 30000})],
)
def test_settings_that_read_levels_or_stream_are_left_to_funasr(
    detector: sottovoce.Model, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], processor: dict[str, Any]
) -> None:
    for name, value in options.items():
        setattr(detector.module.vad_opts, name, value)
    detector.processor.update(processor)
    monkeypatch.setattr(voice_activity, "segments", None)  # the rules that stand for FunASR's are not called
    audio = bursts(1, 12.0)
    assert functions.call(detector, "detect_speech", audio) == funasrs(detector, audio)


def test_audio_that_is_louder_than_full_scale_is_left_to_funasr_where_levels_could_decide(
    detector: sottovoce.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_activity, "segments", None)
    audio = 30 * bursts(2, 5.0)
    assert functions.call(detector, "detect_speech", audio) == funasrs(detector, audio)


def test_silence_and_audio_shorter_than_a_frame_have_no_speech(detector: sottovoce.Model) -> None:
    for audio in (np.zeros(399, np.float32), np.zeros(48000, np.float32)):
        assert functions.call(detector, "detect_speech", audio) == []
