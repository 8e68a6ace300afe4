"""Voice activity and punctuation beside the recognizer: untouched, or compressed when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import sottovoce
from plugins.paraformer.tiny import make_model
from plugins.paraformer.tiny_companions import make_punctuation, make_voice_activity
from sottovoce.runtime.int8_linear import Int8Linear


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "model": str(make_model(root / "asr")),
        "vad_model": str(make_voice_activity(root / "vad")),
        "punc_model": str(make_punctuation(root / "punc")),
    }


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "a.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(48000)
    soundfile.write(path, noise.astype(np.float32), 16000)
    return path


def quantized(module: object) -> int:
    return sum(isinstance(child, Int8Linear) for child in module.modules())  # type: ignore[attr-defined]


def test_companions_stay_as_they_are(directories: dict[str, str], recording: Path) -> None:
    source, *_ = directories.values()
    rest = {name: value for name, value in directories.items() if name != "model"}
    asr = sottovoce.from_pretrained(source, recipe="int8", **rest)
    assert quantized(asr.model)
    assert not quantized(asr.vad_model)
    assert not quantized(asr.punc_model)
    results = asr.generate(input=str(recording))
    assert len(results) == 1
    assert results[0]["text"]


def test_companions_are_compressed_when_asked(directories: dict[str, str], recording: Path) -> None:
    source, *_ = directories.values()
    rest = {name: value for name, value in directories.items() if name != "model"}
    asr = sottovoce.from_pretrained(source, vad_recipe="int8", punc_recipe="int8", **rest)
    assert not quantized(asr.model)
    assert quantized(asr.vad_model)
    assert quantized(asr.punc_model)
    assert asr.generate(input=str(recording))[0]["text"]


def test_companions_are_loaded_strictly(directories: dict[str, str], tmp_path: Path) -> None:
    broken = make_voice_activity(tmp_path / "vad")
    (broken / "model.safetensors").write_bytes(b"")
    with pytest.raises(sottovoce.SottovoceError, match="damaged"):
        sottovoce.load(directories["model"], vad_model=str(broken))
    (broken / "config.yaml").write_text("model: FsmnVADStreaming\ntrust_remote_code: true\n")
    with pytest.raises(sottovoce.SottovoceError, match="trust_remote_code is refused"):
        sottovoce.load(directories["model"], vad_model=str(broken))
