"""The transcriber: pieces, batches, times of the whole audio, and what it refuses."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from core.transcription.families import Recognizer, aligner, detector, model, punctuator, stopping
from sottovoce import Prediction, Segment, Transcriber, Word
from sottovoce.errors import CancelledError, SamplesError, SourceError, UsageError

SECOND = 16000


def noise(seconds: float) -> Any:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * SECOND)).astype(np.float32)


def test_times_of_segments_and_words_are_those_of_the_whole_audio() -> None:
    transcriber = Transcriber(Recognizer(words=True).model, vad=detector((0.5, 1.5), (3.0, 5.0)))
    transcript = transcriber.transcribe(noise(6))
    assert transcript.segments == (
        Segment(text="long 10", start=0.5, end=1.5, words=(Word("long", 0.5, 0.6), Word("10", 0.7, 1.5))),
        Segment(text="long 20", start=3.0, end=5.0, words=(Word("long", 3.0, 3.1), Word("20", 3.2, 5.0))),
    )
    assert transcript.text == "long 10 long 20"
    assert transcript.duration == 6.0


def test_segments_come_in_order_of_time_though_batches_are_by_length() -> None:
    recognizer = Recognizer()
    spans = [(0, 5.0), (6, 7.0), (8, 13.1), (14, 15.1), (20, 25.0)]
    segments = list(Transcriber(recognizer.model, vad=detector(*spans)).segments(noise(30)))
    assert [(segment.start, segment.end) for segment in segments] == spans
    assert [segment.text for segment in segments] == ["long 50", "long 10", "long 51", "long 11", "long 50"]
    assert [len(batch) for batch in recognizer.batches] == [3, 2]


def test_a_segment_is_ready_before_later_audio_is_recognized() -> None:
    recognizer = Recognizer()
    spans = [(10.0 * number, 10.0 * number + 9) for number in range(30)]
    segments = Transcriber(recognizer.model, vad=detector(*spans)).segments(noise(300))
    assert not recognizer.batches
    assert next(segments).start == 0
    recognized = sum(map(sum, recognizer.batches)) / SECOND
    assert 9 <= recognized <= 120
    assert len([1 for _ in segments]) == 29


def test_text_is_punctuated_and_words_without_times_are_aligned() -> None:
    transcriber = Transcriber(Recognizer().model, punctuation=punctuator(), aligner=aligner())
    segment = transcriber.transcribe(noise(2), language="English").segments[0]
    assert segment.text == "long 20."
    assert segment.words == (Word("long/en", 0.0, 0.1), Word("20/en", 0.1, 0.2))


def test_times_of_the_recognizer_come_before_the_aligners() -> None:
    transcriber = Transcriber(Recognizer(words=True, language="fr").model, aligner=aligner())
    transcript = transcriber.transcribe(noise(2))
    assert transcript.words[0] == Word("long", 0.0, 0.1)
    assert transcript.language == "fr"


def test_companions_of_the_recognizer_are_used() -> None:
    recognizer = Recognizer()
    recognizer.model.companions = {"vad": detector((0.0, 1.0)), "punc": punctuator()}
    assert Transcriber(recognizer.model).transcribe(noise(2)).text == "long 10."


def test_a_family_without_recognize_is_run_by_predict() -> None:
    assert Transcriber(model("plain")).transcribe(noise(1)).text == "said"
    with pytest.raises(UsageError, match="plain takes no hotwords"):
        Transcriber(model("plain")).transcribe(noise(1), hotwords=["a"])


def test_hotwords_reach_the_model_without_empty_ones() -> None:
    recognizer = Recognizer()
    Transcriber(recognizer.model).transcribe(noise(1), hotwords=["one", " ", "two"])
    assert recognizer.hotwords == ("one", "two")


def test_long_audio_is_cut_where_it_is_quiet_without_a_detector(caplog: pytest.LogCaptureFixture) -> None:
    from sottovoce.transcription import transcriber as module

    module._note_cuts.cache_clear()
    recognizer, audio = Recognizer(), noise(150)
    for second in (45, 97):
        audio[second * SECOND : (second + 1) * SECOND] *= 0.001
    for _ in range(2):
        transcript = Transcriber(recognizer.model).transcribe(audio)
    cuts = [segment.end for segment in transcript.segments][:-1]
    assert 45 <= cuts[0] <= 46 and 97 <= cuts[1] <= 98
    assert max(length for batch in recognizer.batches for length in batch) <= 60 * SECOND
    assert len(caplog.records) == 1
    assert "--vad" in caplog.text


def test_a_detectors_long_span_is_cut_too() -> None:
    recognizer = Recognizer()
    segments = Transcriber(recognizer.model, vad=detector((1.0, 140.0))).transcribe(noise(150)).segments
    assert segments[0].start == 1.0 and segments[-1].end == 140.0
    assert all(segment.end - segment.start <= 60 for segment in segments)
    assert all(one.end == two.start for one, two in itertools.pairwise(segments))


def test_silence_gives_no_segments() -> None:
    assert Transcriber(Recognizer().model, vad=detector()).transcribe(noise(1)).segments == ()
    empty = model("empty", recognize=lambda model, waveforms, hotwords, language: [_nothing() for _ in waveforms])
    assert Transcriber(empty).transcribe(noise(1)).segments == ()


def _nothing() -> Any:
    from sottovoce import Recognition

    return Recognition(text=" ")


def test_a_cancelled_transcription_ends_before_the_next_batch() -> None:
    recognizer = Recognizer()
    spans = [(10.0 * number, 10.0 * number + 9) for number in range(30)]
    transcriber = Transcriber(recognizer.model, vad=detector(*spans))
    with pytest.raises(CancelledError, match="cancelled"):
        transcriber.transcribe(noise(300), cancelled=lambda: len(recognizer.batches) >= 3)
    assert len(recognizer.batches) == 3


def test_progress_ends_with_all_seconds() -> None:
    steps: list[tuple[int, int]] = []
    spans = [(10.0 * number, 10.0 * number + 9) for number in range(30)]
    Transcriber(Recognizer().model, vad=detector(*spans)).transcribe(
        noise(300), progress=lambda task, done, total: steps.append((done, total))
    )
    assert steps[0] == (0, 300) and steps[-1] == (300, 300)
    assert sorted(steps) == steps and len(set(steps)) > 3


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"model": detector()}, "models/detector: a model of detector does not recognize speech; families that do: "),
        ({"vad": punctuator()}, "models/marks: a model of marks does not detect where somebody speaks"),
        ({"punctuation": detector()}, "detector does not punctuate text"),
        ({"aligner": detector()}, "detector does not align words with audio"),
    ],
)
def test_a_model_of_another_kind_is_refused_with_those_that_do(given: dict[str, Any], parts: str) -> None:
    with pytest.raises(UsageError, match=parts):
        Transcriber(**{"model": Recognizer().model, **given})


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "is empty"),
        (noise(0.01), "shorter than one frame"),
        (np.full(SECOND, np.nan, np.float32), "NaN"),
        (Path("nowhere.wav"), "nowhere.wav: no such audio file"),
    ],
)
def test_audio_that_cannot_be_used_is_refused_before_anything_runs(audio: Any, message: str) -> None:
    recognizer = Recognizer()
    with pytest.raises(SamplesError, match=message):
        Transcriber(recognizer.model).segments(audio)
    assert not recognizer.batches


def test_an_unknown_language_and_hotwords_as_one_text_are_refused() -> None:
    transcriber = Transcriber(Recognizer().model)
    with pytest.raises(UsageError, match="klingonish"):
        transcriber.segments(noise(1), language="klingonish")
    with pytest.raises(UsageError, match="list of words"):
        transcriber.segments(noise(1), hotwords="abc")


def test_an_error_of_a_library_names_the_model() -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("shapes")

    with pytest.raises(SourceError, match="models/broken: the model does not run .*shapes"):
        Transcriber(model("broken", recognize=broken)).transcribe(noise(1))


@pytest.mark.parametrize(
    ("limit", "starts", "line"),
    [
        (3.0, [6.0, 12.5], "the text of 2 segments ends at the model's limit of tokens, the first at 6.0 s; listen"),
        (4.5, [12.5], "the text of 1 segment ends at the model's limit of tokens, that at 12.5 s; listen"),
        (9.0, [], ""),
    ],
)
def test_texts_that_end_at_the_limit_of_tokens_say_so_in_one_line(
    caplog: pytest.LogCaptureFixture, limit: float, starts: list[float], line: str
) -> None:
    spans = [(0, 1.0), (6, 10.0), (12.5, 17.5)]
    transcript = Transcriber(stopping(limit), vad=detector(*spans)).transcribe(noise(20))
    assert [segment.start for segment in transcript.segments if segment.cut_off] == starts
    assert transcript.cut_off == len(starts)
    assert [part["cut_off"] for part in transcript.to_dict()["segments"]] == [start in starts for start, _ in spans]
    assert len(caplog.records) == bool(starts)
    assert caplog.text.count(line or "limit") == bool(starts)


def test_a_piece_that_reached_the_limit_without_a_word_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    loops = model("loops", predict=lambda model, sample: Prediction(text=" ", cut_off=True))
    assert Transcriber(loops).transcribe(noise(1)).segments == ()
    assert "the text of 1 segment ends" in caplog.text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"hotwords": 5}, "give a list of words"),
        ({"hotwords": [5]}, "5 is of type int; give a list of words"),
        ({"language": 5}, "language='5': no such language"),
        ({"speakers": "2"}, "give a model that tells speakers apart"),
    ],
)
def test_option_of_another_type_is_refused_in_one_line(options: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Transcriber(Recognizer().model).transcribe(noise(1), **options)


def test_no_hotwords_may_be_none() -> None:
    assert Transcriber(Recognizer().model).transcribe(noise(1), hotwords=None).text  # type: ignore[arg-type]


def test_progress_may_be_true_as_it_may_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    transcriber = Transcriber(Recognizer().model)
    assert transcriber.transcribe(noise(1), progress=True).text == "long 10"
    assert [segment.text for segment in transcriber.segments(noise(1), progress=True)] == ["long 10"]


def test_a_transcriber_is_shown_on_one_line() -> None:
    transcriber = Transcriber(Recognizer().model, vad=detector((0, 1)), punctuation=punctuator())
    assert repr(transcriber) == f"<Transcriber {transcriber.model.source.name} with vad, punctuation>"


def test_options_that_no_model_honors_are_refused() -> None:
    with pytest.raises(UsageError, match="device, foo would change nothing, since the model is loaded already"):
        sottovoce.transcribe(Recognizer().model, noise(1), device="cpu", foo=3)
