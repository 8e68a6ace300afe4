"""Transcription by the Paraformer family: batches, hotwords, times, voice activity and punctuation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from forked import run_code
from plugins.paraformer.tiny import make_model
from plugins.paraformer.tiny_companions import make_punctuation, make_voice_activity
from sottovoce.errors import UsageError
from sottovoce.transcription import functions

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-paraformer"
DATA = ROOT / "examples" / "data" / "mandarin-commands"

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's own


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, sottovoce.Model]:
    root = tmp_path_factory.mktemp("models")
    makers = {"vad": make_voice_activity, "punc": make_punctuation}
    directories = {name: make(root / name) for name, make in makers.items()}
    for kind in ("SeacoParaformer", "ContextualParaformer", "BiCifParaformer"):
        directories[kind] = make_model(root / kind, kind)
    return {name: sottovoce.load(directory) for name, directory in directories.items()}


@pytest.fixture(scope="module")
def trained() -> sottovoce.Model:
    return sottovoce.load(TRAINED)


@pytest.fixture(scope="module")
def clips() -> list[Any]:
    rows = [json.loads(line) for line in (DATA / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    return [sottovoce.read_audio(DATA / row["source"]) for row in rows[:48]]


def noise(seconds: float, seed: int = 0) -> Any:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds)).astype(np.float32)


def test_a_batch_gives_what_its_clips_give_alone_and_what_funasr_gives(
    trained: sottovoce.Model, clips: list[Any]
) -> None:
    together = [result.text for result in functions.recognize(trained, clips, (), None)]
    alone = [functions.recognize(trained, [clip], (), None)[0].text for clip in clips]
    assert together == alone
    assert alone[:12] == [trained.native.generate(input=clip, disable_pbar=True)[0]["text"] for clip in clips[:12]]
    assert len(set(together)) > 20


@pytest.mark.parametrize("kind", ["BiCifParaformer", "SeacoParaformer"])
def test_words_have_times_in_order_which_a_batch_does_not_change(models: dict[str, sottovoce.Model], kind: str) -> None:
    clips = [noise(1.0), noise(2.3, 1), noise(1.7, 2)]
    together = functions.recognize(models[kind], clips, (), None)
    alone = [functions.recognize(models[kind], [clip], (), None)[0] for clip in clips]
    assert together == alone
    for result, clip in zip(together, clips, strict=True):
        assert "".join(word.text for word in result.words) == result.text.replace(" ", "")
        times = [time for word in result.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= len(clip) / 16000 + 0.06


@pytest.mark.parametrize("kind", ["SeacoParaformer", "ContextualParaformer"])
def test_hotwords_are_those_that_funasr_would_read(models: dict[str, sottovoce.Model], kind: str) -> None:
    model, clip = models[kind], noise(2.0)
    given: list[Any] = []
    decode = "_seaco_decode_with_ASF" if kind == "SeacoParaformer" else "cal_decoder_with_predictor"
    original = getattr(model.module, decode)

    def spy(*args: Any, **options: Any) -> Any:
        given.append(options.get("hw_list"))
        return original(*args, **options)

    setattr(model.module, decode, spy)
    try:
        ours = functions.recognize(model, [clip], ("开灯", "空调"), None)[0].text
        theirs = model.native.generate(input=clip, hotword="开灯 空调", disable_pbar=True)[0]["text"]
    finally:
        delattr(model.module, decode)
    assert given[0] == given[1]
    assert len(given[0]) == 3
    assert ours.replace(" ", "") == theirs.replace(" ", "")


def test_a_hotword_is_never_an_address_or_a_file_and_is_not_logged(
    models: dict[str, sottovoce.Model], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "words.txt"
    path.write_text("开灯\n" * 40)
    caplog.set_level(0)
    for word in ("http://127.0.0.1:9/words", str(path)):
        assert functions.recognize(models["SeacoParaformer"], [noise(1.0)], (word,), None)
    assert not caplog.records


def test_a_class_without_hotwords_refuses_them(trained: sottovoce.Model) -> None:
    with pytest.raises(UsageError, match="a Paraformer takes no hotwords; SeacoParaformer"):
        functions.recognize(trained, [noise(1.0)], ("灯",), None)


def test_speech_has_times_in_seconds(models: dict[str, sottovoce.Model]) -> None:
    ((start, end),) = functions.call(models["vad"], "detect_speech", noise(3.0))
    assert 0 <= start < 0.5
    assert 2.5 < end <= 3.0
    transcript = sottovoce.transcribe(TRAINED, noise(3.0), vad=models["vad"])
    assert [(segment.start, segment.end) for segment in transcript.segments] in ([], [(start, end)])


def test_text_is_punctuated_as_funasr_does_and_is_never_an_address(models: dict[str, sottovoce.Model]) -> None:
    text = "今天天气很好我们出去走走吧"
    expected = models["punc"].native.generate(input=text, disable_pbar=True)[0]["text"]
    assert functions.call(models["punc"], "punctuate", text) == expected
    assert len(expected) > len(text)
    assert "127" in functions.call(models["punc"], "punctuate", "http://127.0.0.1:9/x")


def test_aligned_words_of_the_bundled_models_follow_the_text() -> None:
    audio = DATA / "test" / "test-0001.flac"
    transcript = sottovoce.transcribe(TRAINED, audio, aligner=ROOT / "examples" / "models" / "tiny-aligner")
    assert transcript.text == "请把客厅的灯关闭"
    assert "".join(word.text for word in transcript.words) == transcript.text
    assert 0 < transcript.words[0].start < transcript.words[-1].end <= transcript.duration


CODE = f"""
import sys, sottovoce
sottovoce.load({str(TRAINED)!r})
print({{"sklearn", "funasr.models.sense_voice.model"}} & set(sys.modules))
from funasr.register import tables
print(tables.model_classes["SenseVoiceSmall"].__module__, tables.model_classes.get("NoSuchModel"))
from funasr.models.campplus.cluster_backend import ClusterBackend
print(ClusterBackend.__module__)
"""


def test_only_the_needed_models_of_funasr_are_imported_and_others_are_there_when_asked_for() -> None:
    done = run_code(CODE, dict(os.environ))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "set()"
    assert lines[-2:] == ["funasr.models.sense_voice.model None", "funasr.models.campplus.cluster_backend"]
