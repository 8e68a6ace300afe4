"""What samples must be to calibrate on: real speech, enough of it, and all that the family reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from core.toy import architecture
from sottovoce import Sample, Samples
from sottovoce.calibration.calibration import LEAST_SECONDS, Calibration, check_samples, is_noise
from sottovoce.errors import SamplesError
from sottovoce.samples import read_samples

MANIFEST = Path(__file__).parents[3] / "examples" / "data" / "mandarin-commands" / "calibration.jsonl"
RATE = 16_000
Audio = NDArray[np.float32]


@pytest.fixture(scope="module")
def speech() -> Samples:
    return read_samples(MANIFEST)


def noise(seconds: float = 12, seed: int = 0) -> Audio:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def array(path: object) -> Audio:
    import soundfile

    return np.asarray(soundfile.read(str(path), dtype="float32")[0])


def test_speech_in_noise_is_accepted(speech: Samples) -> None:
    check_samples(speech, architecture())
    lines = MANIFEST.read_text(encoding="utf-8")
    assert all(f'"noise": "{kind}"' in lines for kind in ("white", "pink", "babble"))


def test_example_utterances_are_not_noise(speech: Samples) -> None:
    assert [sample.key for sample in speech if is_noise(array(sample.audio))] == []


@pytest.mark.parametrize("level", [0.03, 0.1, 0.3])
def test_speech_with_white_noise_is_not_noise(level: float, speech: Samples) -> None:
    for sample in speech[:6]:
        audio = array(sample.audio)
        hiss = np.random.default_rng(0).standard_normal(len(audio)).astype(np.float32)
        assert not is_noise(audio + level * float(audio.std()) * hiss)


@pytest.mark.parametrize(
    "make",
    [
        lambda: noise(),
        lambda: np.random.default_rng(1).uniform(-1, 1, 12 * RATE).astype(np.float32),
        lambda: noise() * 1e-4,
        lambda: noise(2),
    ],
    ids=["normal", "uniform", "faint", "short"],
)
def test_white_noise_is_recognized(make: Callable[[], Audio]) -> None:
    assert is_noise(make())


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(12 * RATE, np.float32),
        np.sin(np.arange(12 * RATE) * 0.1).astype(np.float32),
        np.full(12 * RATE, 0.5, np.float32),
        np.full(12 * RATE, np.nan, np.float32),
        np.zeros(0, np.float32),
        noise(0.1),
    ],
    ids=["silence", "tone", "constant", "not a number", "empty", "too short to tell"],
)
def test_silence_and_tones_are_not_noise(audio: Audio) -> None:
    assert not is_noise(audio)


def test_noise_samples_are_refused_with_a_key(speech: Samples) -> None:
    samples = Samples((*speech[:6], Sample(key="hiss", audio=noise()), Sample(key="more", audio=noise(seed=1))))
    with pytest.raises(SamplesError, match="2 samples are noise, such as 'hiss'; give real speech"):
        check_samples(samples, architecture())


def test_noise_in_a_stereo_file_is_refused(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "hiss.wav", np.stack([noise(), noise()], axis=1), RATE)
    samples = Samples((Sample(key="hiss", audio=tmp_path / "hiss.wav"),), tmp_path / "manifest.jsonl")
    with pytest.raises(SamplesError, match=r"manifest\.jsonl: 1 sample is noise"):
        check_samples(samples, architecture())


def test_too_little_audio_is_refused(speech: Samples) -> None:
    few = Samples(tuple(speech[:2]))
    seconds = sum(sample.seconds for sample in few)
    assert seconds < LEAST_SECONDS
    with pytest.raises(SamplesError, match=rf"{seconds:.1f} s of audio are too short .* at least 10 s of real speech"):
        check_samples(few, architecture())


@pytest.mark.parametrize(
    ("sample", "inputs", "lacking"),
    [
        (Sample(key="odd", text="abc"), ("audio",), "audio"),
        (Sample(key="odd", audio=noise()), ("audio", "text"), "text"),
        (Sample(key="odd", audio=noise(), text=""), ("audio", "text"), "text"),
        (Sample(key="odd", audio=noise(), text="abc"), ("messages",), "messages"),
    ],
    ids=["audio", "text", "empty text", "messages"],
)
def test_sample_without_a_required_field_is_named(
    sample: Sample, inputs: tuple[str, ...], lacking: str, speech: Samples
) -> None:
    family = architecture(inputs=inputs)
    whole = tuple(Sample(key=each.key, audio=each.audio, text="abc", messages=({},)) for each in speech[:8])
    check_samples(Samples(whole), family)
    with pytest.raises(SamplesError, match=rf"toy is calibrated on {' and '.join(inputs)}; 1 sample has no {lacking}"):
        check_samples(Samples((*whole, sample)), family)


def test_text_family_accepts_samples_without_audio() -> None:
    check_samples(Samples((Sample(key="1", text="abc"),)), architecture(inputs=("text",)))


def test_calibration_is_true_only_with_samples(tmp_path: Path) -> None:
    assert not Calibration()
    assert Calibration(samples=Samples((Sample(key="1", text="a"),)))


def test_steps_keep_completed_blocks_in_different_directories(tmp_path: Path) -> None:
    calibration = Calibration(directory=tmp_path, key="key")
    assert calibration.step(0).directory != calibration.step(1).directory
    assert calibration.step(1).key == "key"
    assert Calibration().step(1).directory is None
