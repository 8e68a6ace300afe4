"""Speakers are told apart as stock FunASR's ``AutoModel`` does it with ``spk_model``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from plugins.paraformer.tiny import load as load_stock
from plugins.paraformer.tiny import make_model
from plugins.paraformer.tiny_companions import make_punctuation, make_speaker, make_voice_activity
from sottovoce.errors import CoverageError, UsageError
from sottovoce.transcription import functions

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's own, and scikit-learn's

RATE = 16000
TURN = 6.0
"""Seconds after which the other voice speaks; voice activity ends a segment every 3 s. Where two speakers share a
segment, FunASR prefers the first unless the second speaks twice as long; here it is who speaks longer."""


def voice(which: int, seconds: float, seed: int = 0) -> Any:
    """A tone that glides up and down, or one that stays: CAM++ hears what changes."""
    time = np.arange(round(seconds * RATE)) / RATE
    glide = 300 + 1250 * (1 + np.sin(4 * np.pi * time)) if which == 0 else np.full(len(time), 1000.0)
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.1 * np.sin(2 * np.pi * np.cumsum(glide) / RATE) + 0.01 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def audio() -> Any:
    return np.concatenate([voice(number % 2, TURN, number) for number in range(5)])


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    windows = [voice(which, 4, seed)[700 * seed :][: 3 * RATE // 2] for seed in range(32) for which in (0, 1)]
    return {
        "plain": make_model(root / "plain"),
        "timed": make_model(root / "timed", "SeacoParaformer"),
        "vad": make_voice_activity(root / "vad", 3000),
        "punc": make_punctuation(root / "punc"),
        "spk": make_speaker(root / "spk", windows),
    }


@pytest.fixture(scope="module")
def speaker(directories: dict[str, Path]) -> sottovoce.Model:
    return sottovoce.load(directories["spk"])


def stock(directories: dict[str, Path], model: str, audio: Any, *companions: str, **options: Any) -> list[Any]:
    """What FunASR says: sentences with start and end in ms, and the number of the speaker."""
    beside = {f"{name}_model": str(directories[name]) for name in companions}
    native = load_stock(directories[model], **beside)
    np.random.seed(0)
    # As Sottovoce has it: the silence that ends a segment stays what it is.
    sentences: list[Any] = native.generate(input=audio, dynamic_silence=False, **options)[0]["sentence_info"]
    return sentences


def number(segment: sottovoce.Segment) -> int:
    assert segment.speaker is not None
    return int(segment.speaker.removeprefix("SPEAKER_"))


def turns(model: sottovoce.Model, audio: Any, count: int | None = None) -> list[sottovoce.SpeakerTurn]:
    steps = functions.diarize(model, audio, [(0.0, len(audio) / RATE)], count)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return list(end.value)


def test_segments_have_the_speakers_that_funasr_gives_them(directories: dict[str, Path], audio: Any) -> None:
    expected = stock(directories, "plain", audio, "vad", "spk")
    transcript = sottovoce.transcribe(directories["plain"], audio, vad=directories["vad"], diarizer=directories["spk"])
    ours = {round(1000 * segment.start): number(segment) for segment in transcript.segments}
    assert ours == {sentence["start"]: sentence["spk"] for sentence in expected if sentence["text"].strip()}
    assert len(ours) > 5
    assert set(ours.values()) == {0, 1}


def test_sentences_have_the_speakers_that_funasr_gives_them(directories: dict[str, Path], audio: Any) -> None:
    expected = stock(directories, "timed", audio, "vad", "punc", "spk")
    transcript = sottovoce.transcribe(
        directories["timed"],
        audio,
        vad=directories["vad"],
        punctuation=directories["punc"],
        diarizer=directories["spk"],
    )
    assert {number(segment) for segment in transcript.segments} == {sentence["spk"] for sentence in expected} == {0, 1}
    # Punctuation is restored segment by segment here, and in the whole text there, so sentences can differ.
    for segment in transcript.segments:
        if whole := [one for one in expected if _overlap(one, segment) > 0.9 * (one["end"] - one["start"])]:
            shares = {spk: sum(_overlap(one, segment) for one in whole if one["spk"] == spk) for spk in (0, 1)}
            assert number(segment) == max(shares, key=lambda spk: shares[spk])


def _overlap(sentence: Any, segment: sottovoce.Segment) -> float:
    return max(0.0, min(sentence["end"], 1000 * segment.end) - max(sentence["start"], 1000 * segment.start))


def test_turns_are_the_voices_and_come_out_the_same_each_time(speaker: sottovoce.Model, audio: Any) -> None:
    first = turns(speaker, audio)
    np.random.seed(123)
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert turns(speaker, audio) == first
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]
    for turn in first:
        middle = (turn.start + turn.end) / 2
        assert turn.speaker == int(middle // TURN) % 2
    assert [turn.speaker for turn in first] == [0, 1, 0, 1, 0]


def test_the_number_of_speakers_is_funasrs_preset(directories: dict[str, Path], audio: Any) -> None:
    expected = stock(directories, "plain", audio, "vad", "spk", preset_spk_num=1)
    transcript = sottovoce.transcribe(
        directories["plain"], audio, vad=directories["vad"], diarizer=directories["spk"], speakers=1
    )
    said = [sentence["spk"] for sentence in expected if sentence["text"].strip()]
    assert [number(segment) for segment in transcript.segments] == said
    assert set(said) == {0}


def test_companions_of_a_loaded_model_are_used(directories: dict[str, Path], audio: Any) -> None:
    beside = {f"{name}_model": str(directories[name]) for name in ("vad", "spk")}
    model = sottovoce.load(directories["plain"], **beside)
    assert model.companions["spk"].architecture.name == "cam++"
    transcript = sottovoce.Transcriber(model).transcribe(audio)
    assert {number(segment) for segment in transcript.segments} == {0, 1}


def test_short_speech_is_one_speakers_which_is_said_once(
    speaker: sottovoce.Model, audio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from sottovoce_paraformer import speakers

    speakers._note_short.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert {turn.speaker for turn in turns(speaker, audio[: 10 * RATE], 2)} == {0}
    assert ["about 15 s" in record.getMessage() for record in caplog.records] == [True]


def test_silence_has_no_turns(speaker: sottovoce.Model) -> None:
    steps = functions.diarize(speaker, np.zeros(RATE, dtype=np.float32), [], None)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == ()


def test_more_speakers_than_windows_and_missing_packages_are_one_line(
    speaker: sottovoce.Model, audio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"speakers=90: the speech has only \d+ windows"):
        turns(speaker, audio, 90)
    monkeypatch.setattr("sottovoce_paraformer.speakers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs more packages; pip install scikit-learn$"):
        turns(speaker, audio)


def test_a_model_of_another_kind_is_refused(directories: dict[str, Path], audio: Any) -> None:
    with pytest.raises(UsageError, match=r"a model of ct-punc does not tell speakers apart; families that do: cam\+\+"):
        sottovoce.transcribe(directories["plain"], audio, vad=directories["vad"], diarizer=directories["punc"])


def test_it_predicts_turns_and_has_nothing_to_quantize(speaker: sottovoce.Model) -> None:
    runner = speaker.architecture.runner
    sample = runner.probe(speaker)
    assert runner.forward(speaker, sample).shape == (2, 16)
    assert runner.predict(speaker, sample).tokens == ("0-2000:0",)
    with pytest.raises(CoverageError, match="0 layers"):
        sottovoce.compress(speaker, "int8")
