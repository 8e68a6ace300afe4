"""Audio inside a page: real Opus, that another reader decodes to the same sound."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sottovoce.errors import SamplesError, SottovoceError
from sottovoce.system.audio import read_audio
from sottovoce.system.opus import encode_opus, require_opus

pytest.importorskip("av", reason="the extra `audio` encodes")

SPEECH = Path(__file__).parents[3] / "examples/data/mandarin-commands/test/test-0001.flac"


def test_speech_comes_out_as_it_was_and_much_smaller() -> None:
    samples = read_audio(SPEECH)
    content = encode_opus(SPEECH, 30.0)
    assert content.startswith(b"OggS")
    assert len(content) < 0.2 * 2 * len(samples)
    decoded, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert decoded.ndim == 1
    assert len(decoded) / rate == pytest.approx(len(samples) / 16000, abs=0.03)
    loudness = [
        np.sqrt(np.mean(np.square(part))) for part in (decoded, samples)
    ]  # a codec keeps how it sounds, not each sample
    assert loudness[0] == pytest.approx(loudness[1], rel=0.1)


def test_only_the_first_seconds_are_kept() -> None:
    decoded, rate = soundfile.read(io.BytesIO(encode_opus(SPEECH, 1.0)))
    assert len(decoded) / rate == pytest.approx(1.0, abs=0.03)


def test_audio_that_cannot_be_read_is_an_error_that_names_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"garbage" * 99)
    with pytest.raises(SamplesError, match="sample 'a'"):
        encode_opus(path, 1.0, name="sample 'a'")


def test_a_missing_encoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.system.opus.find_spec", lambda name: None)
    with pytest.raises(SottovoceError, match="pip install av, or leave --audio out"):
        require_opus()


def test_an_ffmpeg_without_the_encoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    require_opus()
    monkeypatch.setattr("sottovoce.system.opus._ENCODER", "no-such-encoder")
    with pytest.raises(SottovoceError, match="which this machine's PyAV lacks .no-such-encoder.; pip install"):
        require_opus()
