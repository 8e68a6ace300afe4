"""What the client of exports computes without PyTorch is what transformers' processor computes."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank
from transformers.models.qwen3_asr.processing_qwen3_asr import _fix_timestamps

from plugins.forced_aligner.tiny import make_processor
from sottovoce_forced_aligner import onnx_client
from sottovoce_forced_aligner.languages import LANGUAGES
from sottovoce_forced_aligner.onnx_client import find_language, mel_filters, read_audio, repaired, split_words

SETTINGS = {"mels": 128, "sampling_rate": 16000, "n_fft": 400, "highest_hz": 8000.0}
TEXTS = [
    ("打开，客厅的 灯!", "Chinese"),
    ("It's 5 o'clock -- isn't it?", "English"),
    ("用 Wi-Fi 打开 TV", "Chinese"),
    ("L\u2019\u00e9t\u00e9 de nai\u0308ve", "French"),
    ("\u00bfQu\u00e9 tal?  ma\u00f1ana", "Spanish"),
    ("... !", "English"),
]


def test_filters_are_slaneys() -> None:
    expected = mel_filter_bank(201, 128, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(SETTINGS), expected, atol=1e-7)


@pytest.mark.parametrize(("text", "language"), TEXTS)
def test_texts_are_split_as_before_alignment(text: str, language: str) -> None:
    from sottovoce_forced_aligner.reading import split_words as expected

    assert split_words(text, language) == expected(make_processor(), text, language)


def test_times_are_repaired_as_transformers_repairs_them() -> None:
    random = np.random.default_rng(0)
    for count in range(1, 41):
        for spread in (0, 3, 40):
            steps = np.sort(random.integers(0, 60, count)) + random.integers(-spread, spread + 1, count)
            times = (80.0 * np.maximum(steps, 0)).astype(float)
            assert repaired(times.tolist()) == _fix_timestamps(times), times


def test_an_unknown_language_is_refused_with_those_that_are_known() -> None:
    assert find_language("EN", LANGUAGES) == find_language("english", LANGUAGES) == "English"
    with pytest.raises(ValueError, match=r"'Klingon' cannot be aligned; languages: Chinese"):
        find_language("Klingon", LANGUAGES)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(onnx_client, "import_module", refuse)
    with pytest.raises(ValueError, match=r"nagisa is needed to split Japanese.*pip install nagisa"):
        split_words("こんにちは", "Japanese")


def test_wav_of_two_channels_is_averaged_and_of_another_rate_refused(tmp_path: Path) -> None:
    samples = np.array([[1000, 3000], [-2000, 2000]], "<i2")
    for rate in (16000, 8000):
        with wave.open(str(tmp_path / f"{rate}.wav"), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.tobytes())
    np.testing.assert_allclose(read_audio(tmp_path / "16000.wav", 16000), [2000 / 32768, 0])
    with pytest.raises(ValueError, match="has 8000 Hz, not 16000; convert it: ffmpeg"):
        read_audio(tmp_path / "8000.wav", 16000)
