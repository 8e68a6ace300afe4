"""Manifests: what is read, and what is refused, with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sottovoce import read_samples
from sottovoce.errors import SamplesError


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "wav" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros(8000, dtype=np.float32), 16000)
    return path


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_json_lines(audio: Path, tmp_path: Path) -> None:
    words = [{"text": "hi", "start": 0.0, "end": 0.2}]
    line = {"key": "u1", "source": "wav/a.wav", "target": "hi", "language": "en", "words": words, "voice": "f1"}
    samples = read_samples(manifest(tmp_path, json.dumps(line), "", json.dumps({"source": str(audio)})))
    assert [sample.key for sample in samples] == ["u1", "000003"]
    assert samples[0].audio == audio
    assert (samples[0].text, samples[0].language, samples[0].words) == ("hi", "en", tuple(words))
    assert samples[1].text is None
    assert samples.to_dict()["audio_seconds"] == 1.0


def test_kaldi_pairs(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"u1 {audio}\nu2 wav/a.wav\n")
    (tmp_path / "text").write_text("u1 你好 吗\n")
    for path in (tmp_path, tmp_path / "wav.scp"):
        samples = read_samples(path)
        assert [(sample.key, sample.text) for sample in samples] == [("u1", "你好 吗"), ("u2", None)]


def test_the_digest_tells_data_apart(audio: Path, tmp_path: Path) -> None:
    first = read_samples(manifest(tmp_path, '{"key": "a", "source": "wav/a.wav", "target": "x"}')).digest
    second = read_samples(manifest(tmp_path, '{"key": "a", "source": "wav/a.wav", "target": "y"}')).digest
    soundfile.write(audio, np.ones(8000, dtype=np.float32), 16000)
    third = read_samples(manifest(tmp_path, '{"key": "a", "source": "wav/a.wav", "target": "y"}')).digest
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        ("{}", "neither 'source'"),
        ('{"source": 3}', "'source' must be a str, not int"),
        ('{"source": "wav/a.wav", "target": ["x"]}', "'target' must be a str"),
        ('{"source": "wav/none.wav"}', "no such audio file: wav/none.wav"),
        ('{"source": "wav"}', "no such audio file: wav"),
    ],
)
def test_a_broken_line_is_named(line: str, problem: str, audio: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path, '{"source": "wav/a.wav"}', line)
    with pytest.raises(SamplesError) as caught:
        read_samples(path)
    assert f"{path}:2: " in str(caught.value)
    assert problem in str(caught.value)


def test_a_key_may_not_stand_twice(audio: Path, tmp_path: Path) -> None:
    line = '{"key": "u", "source": "wav/a.wav"}'
    with pytest.raises(SamplesError, match="'u' stands twice"):
        read_samples(manifest(tmp_path, line, line))


def test_missing_and_empty_manifests(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="no such manifest"):
        read_samples(tmp_path / "none.jsonl")
    with pytest.raises(SamplesError, match="no such manifest"):
        read_samples(tmp_path)
    with pytest.raises(SamplesError, match="no samples"):
        read_samples(manifest(tmp_path, "", " "))
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SamplesError, match="UTF-8"):
        read_samples(tmp_path / "data.jsonl")


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            read_samples(path)
        except SamplesError as error:
            assert "\n" not in str(error).replace(text, "")
