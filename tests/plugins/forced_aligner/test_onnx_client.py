"""The client beside an exported aligner does what the processor does, without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.forced_aligner.exported import TRAINED, compressed, own_boundaries, utterances
from sottovoce import Model
from sottovoce.errors import SottovoceError
from sottovoce_forced_aligner.languages import LANGUAGES
from sottovoce_forced_aligner.onnx_client import Aligner, find_language, read_audio, repaired, split_words
from sottovoce_forced_aligner.onnx_format import ONNX
from sottovoce_forced_aligner.reading import prepare
from sottovoce_forced_aligner.reading import split_words as split_by_processor

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own and transformers'
_WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({blocked!r}))
sys.argv = {arguments!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Path]]:
    """The bundled aligner and its export."""
    model, directory = compressed("float"), tmp_path_factory.mktemp("exported")
    ONNX().write(model, directory)
    yield model, directory


def run(directory: Path, *arguments: str, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the client in a process that has neither PyTorch nor Sottovoce."""
    names = ("torch", "transformers", "sottovoce", "sottovoce_forced_aligner", *blocked)
    code = _WITHOUT.format(blocked=names, arguments=[str(directory / "align.py"), *arguments])
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)


def write_wav(path: Path, samples: Any, rate: int = 16000, channels: int = 1) -> Path:
    """Write samples in 16 bits, the same in each channel."""
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        values = (np.clip(samples, -1, 1) * 32767).astype("<i2")
        file.writeframes(np.repeat(values[:, None], channels, axis=1).tobytes())
    return path


def test_it_runs_alone_and_prints_the_times_of_the_model(exported: tuple[Model, Path], tmp_path: Path) -> None:
    model, directory = exported
    assert len((directory / "align.py").read_text(encoding="utf-8").splitlines()) <= 200
    sample = utterances(2)[1]
    done = run(directory, str(write_wav(tmp_path / "a.wav", sample.audio, channels=2)), "--text", sample.text or "")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [word["text"] for word in result["words"]] == list(sample.text or "")
    times = [time for word in result["words"] for time in (word["start"], word["end"])]
    assert times == own_boundaries(model, [sample]).tolist()


def test_features_and_tokens_are_the_processors(exported: tuple[Model, Path]) -> None:
    model, directory = exported
    aligner = Aligner(directory, lambda inputs: None)
    for seconds in (0.2, 1.234, 9.7):
        audio = np.random.default_rng(0).standard_normal(round(16000 * seconds)).astype(np.float32) * 0.1
        batch = prepare(model.processor, audio, ["Hello", "灯", "it's"])
        features, frames = aligner.features(audio)
        size = batch["input_features"].shape[2]
        assert features.shape[2] % 800 == 0 and frames == int(batch["input_features_mask"].sum())
        np.testing.assert_allclose(features[:, :, :size], batch["input_features"].numpy(), atol=1e-3)
        assert not features[:, :, size:].any()
        assert aligner.tokens(["Hello", "灯", "it's"], frames).tolist() == batch["input_ids"][0].tolist()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("请把 iPhone 15 的灯关闭，谢谢！", "Chinese"),
        ("It's an e-mail, “sent” at 10:30…", "English"),
        ("Cafe\u0301 à la crème, s'il vous plaît", "French"),
        ("Привет, мир! Ещё раз", "Russian"),
        ("𠀀㐀豈 多\u3000字", "Cantonese"),
        (" ,。! ", "German"),
    ],
)
def test_words_are_the_processors(text: str, language: str, exported: tuple[Model, Path]) -> None:
    assert split_words(text, language) == split_by_processor(exported[0].processor, text, language)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_words_of_any_text_are_the_processors(text: str) -> None:
    from transformers.models.qwen3_asr.processing_qwen3_asr import Qwen3ASRProcessor

    processor: Any = Qwen3ASRProcessor.__new__(Qwen3ASRProcessor)
    assert split_words(text, "English") == split_by_processor(processor, text, "English")


@given(st.lists(st.integers(0, 12), min_size=1, max_size=24))
def test_times_are_repaired_as_the_processor_repairs_them(bins: list[int]) -> None:
    from transformers.models.qwen3_asr.processing_qwen3_asr import _fix_timestamps

    times = [80.0 * number for number in bins]
    assert repaired(times) == _fix_timestamps(np.array(times, np.float32))


def test_bad_input_is_one_line(exported: tuple[Model, Path], tmp_path: Path) -> None:
    _, directory = exported
    quiet = write_wav(tmp_path / "quiet.wav", np.zeros(16000))
    long = write_wav(tmp_path / "long.wav", np.zeros(30 * 16000))
    slow = write_wav(tmp_path / "slow.wav", np.zeros(8000), rate=8000)
    cases = {
        (str(long), "--text", "灯"): "has 30.00 s: this graph takes up to 20.48; cut it at a silence",
        (str(quiet), "--text", "灯", "--language", "tlh"): "'tlh' cannot be aligned; languages: Chinese, English",
        (str(quiet), "--text", " 。"): "has no words to align",
        (str(slow), "--text", "灯"): "has 8000 Hz, not 16000; convert it: ffmpeg",
        (str(tmp_path / "none.wav"), "--text", "灯"): "No such file",
    }
    for arguments, message in cases.items():
        done = run(directory, *arguments)
        assert done.returncode == 1 and message in done.stderr
        assert done.stderr.count("\n") == 1 and done.stdout == ""


@pytest.mark.parametrize("package", ["numpy", "onnxruntime", "tokenizers", "soundfile", "nagisa", "soynlp"])
def test_missing_package_is_named_in_one_line(package: str, exported: tuple[Model, Path], tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", np.zeros(16000))
    language = {"nagisa": "ja", "soynlp": "ko"}.get(package, "zh")
    if package == "soundfile":
        audio.write_bytes(b"fLaC")
    done = run(exported[1], str(audio), "--text", "灯", "--language", language, blocked=(package,))
    assert done.returncode == 1
    assert f"pip install {package}" in done.stderr and done.stderr.count("\n") == 1


def test_other_files_are_read_by_soundfile(tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.flac", np.full((160, 2), 0.5), 16000)
    np.testing.assert_allclose(read_audio(tmp_path / "a.flac", 16000), np.full(160, 0.5), atol=1e-4)


def test_languages_are_found_by_name_and_code() -> None:
    for code, name in LANGUAGES.items():
        assert find_language(code, LANGUAGES) == find_language(name.upper(), LANGUAGES) == name


def test_template_of_a_chat_is_refused(tmp_path: Path) -> None:
    model = compressed("float")
    model.processor.chat_template = "<|im_start|>" + (TRAINED / "chat_template.jinja").read_text(encoding="utf-8")
    with pytest.raises(SottovoceError, match="template is none of an aligner's"):
        ONNX().write(model, tmp_path)
