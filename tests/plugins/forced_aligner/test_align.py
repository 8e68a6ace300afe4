"""``align``: any audio and its transcript in, the times of the words out."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sottovoce
from plugins.forced_aligner.bursts import RATE, Listener, Talk, make_talk
from plugins.forced_aligner.tiny import make_model, make_processor
from sottovoce import Model
from sottovoce.errors import SamplesError, SourceError, UsageError
from sottovoce_forced_aligner import Alignment, align

PROCESSOR = make_processor()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("aligner") / "tiny"
    make_model(directory)
    return sottovoce.load(directory)


@pytest.fixture
def noise() -> Any:
    return 0.1 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)


def distance(alignment: Alignment, talk: Talk) -> float:
    """Seconds that a boundary is off at most."""
    found = np.array([(word.start, word.end) for word in alignment.words])
    return float(np.abs(found - np.array(talk.times)).max())


def test_what_load_and_from_pretrained_give_align_alike(model: Model, noise: Any) -> None:
    first = align(model, noise, "打开客厅的灯")
    assert first == align(model.native, noise, "打开客厅的灯", "zh", processor=model.processor)
    assert [word.text for word in first.words] == list("打开客厅的灯")
    assert (first.language, first.duration, first.text) == ("Chinese", 2.0, "打开客厅的灯")
    flat = [time for word in first.words for time in (word.start, word.end)]
    assert flat == sorted(flat)
    assert flat[0] >= 0 and flat[-1] <= 2.0


def test_it_is_what_predict_gives(model: Model, noise: Any) -> None:
    sample = sottovoce.Sample(key="a", audio=noise, text="打开客厅的灯")
    prediction = model.architecture.runner.predict(model, sample)
    found = align(model, noise, "打开客厅的灯").words
    assert [(word.start, word.end) for word in found] == prediction.timestamps
    assert [f"{word.text}@{word.start:.2f}-{word.end:.2f}" for word in found] == list(prediction.tokens)


def test_the_inputs_are_the_processors_own_without_a_chat_prefix(model: Model, noise: Any) -> None:
    given: list[Any] = []
    handle = model.native.register_forward_pre_hook(lambda _, __, batch: given.append(batch), with_kwargs=True)
    try:
        align(model, noise, "打开 the 灯", "zh")
        model.architecture.runner.forward(model, sottovoce.Sample(key="a", audio=noise, text="打开 the 灯"))
    finally:
        handle.remove()
    expected, _ = model.processor.prepare_forced_aligner_inputs(
        audio=[noise], transcript=["打开 the 灯"], language=["zh"]
    )
    for batch in given:
        assert batch.keys() - {"use_cache"} == expected.keys()
        assert all(batch[name].equal(expected[name]) for name in expected)
    text = model.processor.tokenizer.decode(expected["input_ids"][0])
    marks = "<timestamp><timestamp>"
    audio = "<|audio_pad|>" * text.count("<|audio_pad|>")
    assert text == f"<|audio_start|>{audio}<|audio_end|>打{marks}开{marks}the{marks}灯{marks}"


def test_a_template_of_chat_is_refused(model: Model, noise: Any) -> None:
    processor = make_processor()
    processor.chat_template = "<|im_start|>user\n" + processor.chat_template
    with pytest.raises(SourceError, match="template puts text before the audio"):
        align(model.native, noise, "开", processor=processor)


def test_forward_keeps_nothing(model: Model, noise: Any) -> None:
    sample = sottovoce.Sample(key="a", audio=noise, text="打开客厅的灯")
    calls: list[Any] = []
    handle = model.native.register_forward_pre_hook(lambda _, __, given: calls.append(given), with_kwargs=True)
    try:
        first, second = (model.architecture.runner.forward(model, sample) for _ in range(2))
    finally:
        handle.remove()
    assert first.equal(second)
    assert [call["use_cache"] for call in calls] == [False, False]


def test_words_do_not_look_at_those_behind_them(model: Model, noise: Any) -> None:
    """What splitting long audio rests on."""
    few, many = (
        model.architecture.runner.forward(model, sottovoce.Sample(key="a", audio=noise, text=text))
        for text in ("打开客厅", "打开客厅的灯，然后去睡觉")
    )
    assert len(many) > len(few)
    torch.testing.assert_close(many[: len(few)], few, rtol=1e-4, atol=1e-4)


def test_a_text_that_is_not_what_was_said_is_doubted_once(caplog: pytest.LogCaptureFixture) -> None:
    talk = make_talk(80)
    rare = talk.text[: len(talk.text) // 4]

    class Lost(Listener):
        def bursts(self, level: Any) -> Any:
            return self.random.uniform(0, 20, (500, 2))

    assert align(Listener(PROCESSOR), talk.audio, talk.text, processor=PROCESSOR, window=20).warnings == ()
    assert not caplog.records
    found = align(Lost(PROCESSOR), talk.audio, rare, processor=PROCESSOR, window=20)
    assert [record.message for record in caplog.records] == list(found.warnings)
    (sentence,) = (sentence for sentence in found.warnings if "agree" in sentence)
    assert re.fullmatch(r"words do not agree on their places \(0:0.*\); is the text all that is said\?", sentence), (
        sentence
    )


@pytest.mark.parametrize("nonsense", ["end", "anywhere", "start"])
@pytest.mark.parametrize("window", [20.0, 45.0])
def test_windows_give_the_times_of_one_pass(nonsense: str, window: float) -> None:
    talk = make_talk(150, seed=3)
    whole = align(Listener(PROCESSOR), talk.audio, talk.text, processor=PROCESSOR)
    listener = Listener(PROCESSOR, nonsense)
    steps: list[tuple[int, int]] = []
    split = align(
        listener, talk.audio, talk.text, processor=PROCESSOR, window=window, progress=lambda *step: steps.append(step)
    )
    assert max(listener.windows) <= window
    assert len(listener.windows) > 150 / window
    assert distance(whole, talk) <= 0.08
    assert distance(split, talk) <= 0.08
    assert steps[-1] == (150, 150)
    assert steps == sorted(steps)


@settings(deadline=None, max_examples=15)
@example(439, "anywhere", 0.0005)  # no silence where a window may end, and gaps between words that mean nothing
@example(1480, "anywhere", 0.005)
@example(6509, "anywhere", 0.0005)
@given(st.integers(0, 10_000), st.sampled_from(["end", "anywhere", "start"]), st.sampled_from([0.0005, 0.005]))
def test_windows_give_the_true_times_of_any_talk(seed: int, nonsense: str, floor: float) -> None:
    talk = make_talk(70, seed, floor=floor)
    found = align(Listener(PROCESSOR, nonsense), talk.audio, talk.text, processor=PROCESSOR, window=16)
    assert distance(found, talk) <= 0.09


@pytest.mark.parametrize("quiet", [(0.0, 55.0), (20.0, 75.0), (50.0, 110.0)])
def test_long_stretches_without_speech_are_no_trouble(quiet: tuple[float, float]) -> None:
    talk = make_talk(110, seed=1, quiet=quiet)
    found = align(Listener(PROCESSOR), talk.audio, talk.text, processor=PROCESSOR, window=20)
    assert distance(found, talk) <= 0.08


def test_audio_without_any_silence_is_cut_between_words() -> None:
    random = np.random.default_rng(0)
    audio = 0.1 * random.standard_normal(60 * RATE).astype(np.float32)
    times = [(0.5 * number, 0.5 * number + 0.42) for number in range(119)]
    for _, end in times:
        audio[round(end * RATE) : round((end + 0.08) * RATE)] *= 0.02
    talk = Talk(audio, "一" * len(times), times)
    found = align(Listener(PROCESSOR), audio, talk.text, processor=PROCESSOR, window=16)
    assert distance(found, talk) <= 0.09


def test_a_text_far_longer_than_the_audio_still_ends() -> None:
    talk = make_talk(60, seed=2)
    found = align(Listener(PROCESSOR), talk.audio, talk.text + "十" * 500, processor=PROCESSOR, window=16)
    assert len(found.words) == len(talk.text) + 500
    assert all(0 <= word.start <= word.end <= found.duration for word in found.words)
    assert len(found.warnings) >= 2


def test_the_window_is_within_what_the_model_has_times_for(model: Model, noise: Any) -> None:
    for window in (1.0, 33.0):  # 400 labels of 80 ms
        with pytest.raises(UsageError, match=r"window=\d+: this model takes windows of 2 to 32 seconds"):
            align(model, noise, "开", window=window)
    with pytest.raises(UsageError, match=r"2 to 300 seconds"):
        align(Listener(PROCESSOR), noise, "开", processor=PROCESSOR, window=301)
    talk = make_talk(50)
    listener = Listener(PROCESSOR, labels=400)
    align(listener, talk.audio, talk.text, processor=PROCESSOR)
    assert max(listener.windows) <= 32


@pytest.mark.parametrize(
    "language", ["zh", "Chinese", "chinese", " YUE ", "en", "French", "de", "it", "pt", "ru", "es"]
)
def test_a_language_goes_by_name_or_code(language: str, model: Model, noise: Any) -> None:
    assert len(align(model, noise, "打开 lights", language).words) == 3


@pytest.mark.parametrize("language", ["nl", "Klingon", ""])
def test_a_language_that_cannot_be_aligned_names_those_that_can(language: str, model: Model, noise: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot be aligned; languages: Chinese \(zh\), .*Spanish \(es\)$"):
        align(model, noise, "a", language)
    sample = sottovoce.Sample(key="s1", audio=noise, text="a", language="Swahili")
    with pytest.raises(SamplesError, match=r"sample 's1': the language .* cannot be aligned"):
        model.architecture.runner.predict(model, sample)


@pytest.mark.parametrize(("language", "library"), [("ja", "nagisa"), ("Korean", "soynlp")])
def test_what_is_missing_for_a_language_is_named(
    language: str, library: str, model: Model, noise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sottovoce_forced_aligner.languages.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"pip install {library}$"):
        align(model, noise, "a", language)


def test_accents_that_stand_apart_stay(model: Model, noise: Any) -> None:
    found = align(model, noise, "Cafe\u0301 tre\u0300s", "fr")
    assert [word.text for word in found.words] == ["Café", "très"]


@pytest.mark.parametrize("text", ["", " \n", "。，！", "—"])
def test_a_text_without_words_is_an_error(text: str, model: Model, noise: Any) -> None:
    with pytest.raises(SamplesError, match="has no words to align"):
        align(model, noise, text)
    with pytest.raises(SamplesError, match="sample 's': has no text with words"):
        model.architecture.runner.forward(model, sottovoce.Sample(key="s", audio=noise, text=text))


@pytest.mark.parametrize(
    ("audio", "problem"),
    [
        (np.zeros(0, np.float32), "is empty"),
        (np.zeros((0, 2), np.float32), "is empty"),
        (np.zeros(399, np.float32), "24.9 ms are shorter than one frame"),
        (np.full(RATE, np.nan, np.float32), "are NaN or infinite"),
        (np.full(RATE, np.inf, np.float32), "are NaN or infinite"),
        (np.zeros((2, 2, 2), np.float32), "must be a file, or numbers"),
        (np.array(["a"]), "must be a file, or numbers"),
    ],
)
def test_audio_that_cannot_be_used_is_an_error(audio: Any, problem: str, model: Model) -> None:
    with pytest.raises(SamplesError, match=f"^the audio: .*{problem}"):
        align(model, audio, "开")
    with pytest.raises(SamplesError, match=f"^sample 's': .*{problem}"):
        model.architecture.runner.forward(model, sottovoce.Sample(key="s", audio=audio, text="开"))


def test_of_audio_shorter_than_a_frame_there_is_no_hypothesis(model: Model) -> None:
    sample = sottovoce.Sample(key="s", audio=np.zeros(399, np.float32), text="开")
    assert model.architecture.runner.predict(model, sample) == sottovoce.Prediction()


def test_a_file_that_cannot_be_used_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"none.wav: no such audio file"):
        align(model, tmp_path / "none.wav", "开")
    (tmp_path / "text.wav").write_text("text")
    with pytest.raises(SamplesError, match=r"text.wav: cannot be read as audio") as caught:
        align(model, str(tmp_path / "text.wav"), "开")
    assert "\n" not in str(caught.value)


def test_the_processor_must_be_given_where_the_model_has_none(model: Model, noise: Any) -> None:
    with pytest.raises(UsageError, match="give processor="):
        align(model.native, noise, "开")


def test_rates_channels_and_integers_give_the_same_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import soxr

    from sottovoce.system import audio

    audio._note_resampling.cache_clear()
    talk = make_talk(20)
    expected = align(Listener(PROCESSOR), talk.audio, talk.text, processor=PROCESSOR)
    fast = soxr.resample(talk.audio, RATE, 44100)
    stereo = np.stack([fast, fast], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100)
    whole = (talk.audio * 32767).astype(np.int16)
    with caplog.at_level(logging.WARNING):
        for given, rate in (
            (tmp_path / "a.wav", RATE),
            (fast, 44100),
            (stereo, 44100),
            (whole, RATE),
            (torch.from_numpy(fast), 44100),
            (talk.audio.astype(np.float64), RATE),
            ((whole.astype(np.int32) + 32768).astype(np.uint16), RATE),
        ):
            found = align(Listener(PROCESSOR), given, talk.text, processor=PROCESSOR, sampling_rate=rate)
            assert distance(found, talk) <= 0.08
            assert found.duration == pytest.approx(expected.duration, abs=0.001)
    notes = [record.message for record in caplog.records if record.name == "sottovoce.system.audio"]
    assert notes == ["audio of 44100 Hz is resampled to 16000 Hz"]


def test_json_holds_the_words() -> None:
    talk = make_talk(10)
    found = align(Listener(PROCESSOR), talk.audio, talk.text, processor=PROCESSOR)
    form = json.loads(found.to_json())
    assert form.keys() == {"language", "duration", "text", "words", "warnings"}
    assert form["warnings"] == []
    assert [(word["text"], word["start"], word["end"]) for word in form["words"]] == [
        (word.text, word.start, word.end) for word in found.words
    ]


def test_every_format_is_one_line_or_whole_for_the_api(model: Model, noise: Any) -> None:
    found = align(model, noise, "打开")
    assert "\n" not in found.to_json()
    assert re.match(r"1\n\d\d:\d\d:\d\d,\d\d\d --> ", found.to_srt())
    assert found.to_textgrid().startswith('File type = "ooTextFile"\n')
