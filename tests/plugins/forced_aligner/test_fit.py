"""A text that is not what is said is doubted, and one that is, is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sottovoce
from plugins.forced_aligner.bursts import RATE, Listener, make_talk
from plugins.forced_aligner.tiny import make_processor
from sottovoce import Model
from sottovoce_forced_aligner import Alignment, align
from sottovoce_forced_aligner.fit import doubts
from sottovoce_forced_aligner.windows import Window

ROOT = Path(__file__).parents[3] / "examples"
DATA = ROOT / "data" / "mandarin-commands"
PROCESSOR = make_processor()
Row = dict[str, Any]


@pytest.fixture(scope="module")
def bundled() -> Model:
    return sottovoce.load(ROOT / "models" / "tiny-aligner")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [json.loads(line) for line in (DATA / "test.jsonl").read_text(encoding="utf-8").splitlines()]


def samples_of(row: Row) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = soundfile.read(DATA / row["source"], dtype="float32")[0]
    return samples


def joined(rows: Sequence[Row], pause: float = 0.4) -> tuple[NDArray[np.float32], list[tuple[float, float]]]:
    """Commands one after the other, and the true times of all their words, as the model's steps can give them."""
    noise = np.random.default_rng(0)
    parts: list[NDArray[np.float32]] = []
    times: list[tuple[float, float]] = []
    begin = 0.0
    for row in rows:
        times += [(begin + word["start"], begin + word["end"]) for word in row["words"]]
        parts += [samples_of(row), 0.0005 * noise.standard_normal(round(pause * RATE)).astype(np.float32)]
        begin += (len(parts[-2]) + len(parts[-1])) / RATE
    return np.concatenate(parts), [(round(start / 0.08) * 0.08, round(end / 0.08) * 0.08) for start, end in times]


def heard(talk_seconds: float, text: str | None = None, *, window: float = 20.0, **talk: Any) -> Alignment:
    """What a model that hears bursts makes of a talk and a text, by default the talk's own."""
    said = make_talk(talk_seconds, **talk)
    return align(Listener(PROCESSOR), said.audio, text or said.text, processor=PROCESSOR, window=window)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_true_times_of_bundled_commands_are_not_doubted(count: int, rows: list[Row]) -> None:
    for first in range(0, len(rows) - count + 1, count):
        audio, times = joined(rows[first : first + count])
        window = Window(0, len(audio) / RATE, 0, len(times), doubtful=False)
        assert doubts(times, [window], audio) == [], rows[first]["key"]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([0.0005, 0.005]))
def test_true_times_of_any_talk_are_not_doubted(seed: int, floor: float) -> None:
    assert heard(60, seed=seed, floor=floor).warnings == ()


def test_the_bundled_aligner_is_not_doubted_where_it_is_right(bundled: Model, rows: list[Row]) -> None:
    doubted = [row["key"] for row in rows[:40] if align(bundled, samples_of(row), row["target"]).warnings]
    assert len(doubted) <= 1  # one boundary may lie elsewhere on another processor


def test_far_more_words_than_fit_one_clip_are_doubted(bundled: Model, rows: list[Row]) -> None:
    text = "".join(row["target"] for row in rows)[:320]
    audio = samples_of(rows[1])[: round(2.7 * RATE)]
    found = align(bundled, audio, text)
    assert len(found.words) == 320
    assert any("320 words are faster than anybody speaks (0:00.0 to 0:02." in sentence for sentence in found.warnings)
    assert any("words have no length (0:00.0 to 0:02." in sentence for sentence in found.warnings)


def test_speech_that_is_left_when_the_words_are_used_up_is_told(bundled: Model, rows: list[Row]) -> None:
    """The bundled model knows single commands; of minutes of them it puts all words into the first windows."""
    audio, times = joined(rows[:60])
    text = "".join(row["target"] for row in rows[:60])
    steps: list[tuple[int, int]] = []
    found = align(bundled, audio, text, progress=lambda *step: steps.append(step))
    assert len(found.words) == len(times)
    assert steps[-1] == (round(found.duration), round(found.duration))
    assert steps == sorted(steps)
    assert any("have no length" in sentence for sentence in found.warnings)


@pytest.mark.parametrize("seconds", [14.0, 60.0])
@pytest.mark.parametrize("window", [18.0, 30.0])
def test_half_of_a_text_leaves_speech_behind_its_last_word(seconds: float, window: float) -> None:
    talk = make_talk(seconds, seed=4)
    half = len(talk.text) // 2
    steps: list[tuple[int, int]] = []
    found = align(
        Listener(PROCESSOR),
        talk.audio,
        talk.text[:half],
        processor=PROCESSOR,
        window=window,
        progress=lambda *step: steps.append(step),
    )
    spoken = sum(end - start for start, end in talk.times[half:])
    sentences = [sentence for sentence in found.warnings if "of speech after the last word (0:" in sentence]
    assert len(sentences) == 1
    assert float(sentences[0].partition(" ")[0]) == pytest.approx(spoken, rel=0.2)
    assert steps[-1] == (round(seconds), round(seconds))


@pytest.mark.parametrize("place", ["before", "between"])
def test_speech_without_words_before_or_between_them_is_told(place: str) -> None:
    talk = make_talk(40, seed=5)
    first = 0 if place == "before" else len(talk.times) // 3
    kept = talk.times[:first] + talk.times[first + 20 :]
    window = Window(0, 40, 0, len(kept), doubtful=False)
    (sentence,) = doubts(kept, [window], talk.audio)
    assert "of speech have no words (0:" in sentence


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_text_several_times_over_is_doubted(count: int, bundled: Model, rows: list[Row]) -> None:
    doubted = sum(bool(align(bundled, samples_of(row), count * row["target"]).warnings) for row in rows[:12])
    assert doubted >= 7


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.05])
def test_audio_in_which_nobody_speaks_is_told(level: float) -> None:
    audio = level * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    (sentence,) = align(Listener(PROCESSOR), audio, "一二三", processor=PROCESSOR).warnings
    assert sentence.startswith("nobody speaks in the audio")


def test_the_noise_of_a_room_beside_digital_silence_is_no_speech() -> None:
    talk = make_talk(20, seed=6, floor=0.002)
    audio = np.concatenate([talk.audio, np.zeros(10 * RATE, np.float32)])
    assert align(Listener(PROCESSOR), audio, talk.text, processor=PROCESSOR).warnings == ()


def test_only_the_windows_that_do_not_fit_are_named() -> None:
    talk = make_talk(60, seed=7)
    half = len(talk.times) // 2
    end = talk.times[half - 1][1]
    squeezed = [(end, end)] * (len(talk.times) - half)
    windows = [Window(0, end, 0, half, doubtful=False), Window(end, 60, half, len(talk.times), doubtful=False)]
    sentences = doubts([*talk.times[:half], *squeezed], windows, talk.audio)
    place = f"({int(end) // 60}:{end % 60:04.1f} to 1:00.0)"
    assert f"{len(squeezed)} words have no length {place}; is that what is said?" in sentences
    assert f"{len(squeezed)} words are faster than anybody speaks {place}; is that what is said?" in sentences
    assert sum("after the last word" in sentence for sentence in sentences) == 1
    assert len(sentences) == 3
