"""Filter banks by PyTorch are those of FunASR's front ends, and other settings are FunASR's to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from funasr.frontends.wav_frontend import WavFrontend, WavFrontendOnline
from numpy.typing import NDArray

from sottovoce_paraformer.filter_banks import filter_banks as exact_filter_banks
from sottovoce_paraformer.torch_filter_banks import computes, features, filter_banks

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


def noise(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)


@pytest.mark.parametrize("length", [400, 401, 559, 560, 20880, 20881, 80000])
def test_frames_are_those_of_the_computation_in_double_precision(length: int) -> None:
    audio = noise(length, length)
    actual = filter_banks(torch.from_numpy(audio), 80)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual.numpy(), exact_filter_banks(audio, 80), atol=2e-3)


def test_silence_is_finite_and_audio_stays_as_it_is() -> None:
    silence = torch.zeros(800)
    assert bool(torch.isfinite(filter_banks(silence, 80)).all())
    audio = torch.from_numpy(noise(3000))
    before = audio.clone()
    filter_banks(audio, 80)
    assert torch.equal(audio, before)


@pytest.mark.parametrize("options", [{"lfr_m": 7, "lfr_n": 6}, {"lfr_m": 5, "lfr_n": 1}, {}, {"n_mels": 40}])
def test_features_of_a_batch_are_funasrs(options: dict[str, Any]) -> None:
    clips = [torch.from_numpy(noise(length, length)) for length in (16000, 400, 35431)]
    frontend = WavFrontend(dither=0.0, **options)
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    expected, lengths = frontend(padded, [len(clip) for clip in clips])
    actual, actual_lengths = features(frontend, clips)
    assert actual_lengths.tolist() == lengths.tolist()
    np.testing.assert_allclose(actual.numpy(), expected.numpy(), atol=2e-3)


@pytest.mark.parametrize("options", [{"window": "povey"}, {"snip_edges": False}, {"upsacle_samples": False}])
def test_other_settings_and_clips_shorter_than_a_window_are_left_to_funasr(options: dict[str, Any]) -> None:
    frontend = WavFrontend(dither=0.0, lfr_m=7, lfr_n=6, **options)
    assert not computes(frontend)
    clip = torch.from_numpy(noise(5000))
    torch.testing.assert_close(features(frontend, [clip])[0], frontend(clip[None], [5000])[0])
    usual, short = WavFrontend(lfr_m=7, lfr_n=6, dither=0.0), clip[:399]
    assert computes(usual)
    torch.testing.assert_close(features(usual, [short])[0], usual(short[None], torch.tensor([399]))[0])


def test_dither_is_left_out_and_the_front_end_keeps_it() -> None:
    clip = torch.from_numpy(noise(5000))
    for options in ({}, {"window": "povey"}):
        frontend = WavFrontend(dither=1.0, **options)
        first, second = (features(frontend, [clip])[0] for _ in range(2))
        assert torch.equal(first, second)
        assert frontend.dither == 1.0


def test_both_kinds_of_front_ends_are_known_and_subclasses_are_not() -> None:
    class Changed(WavFrontend):  # type: ignore[misc]  # FunASR is not typed
        pass

    assert computes(WavFrontendOnline())
    assert not computes(Changed())
