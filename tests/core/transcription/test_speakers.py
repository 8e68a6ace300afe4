"""Speakers of a transcript: turns to labels, segments split where the speaker changes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.transcription.families import Recognizer, aligner, detector, diarizer, model
from sottovoce import Recognition, Segment, SpeakerTurn, Transcriber, Word
from sottovoce.errors import CancelledError, SourceError, UsageError
from sottovoce.transcription.speakers import speaker_of, split_by_speaker

TURNS = (SpeakerTurn(0.0, 1.0, 0), SpeakerTurn(1.0, 3.0, 1))


def noise(seconds: float) -> Any:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000)).astype(np.float32)


def words(*texts: str) -> tuple[Word, ...]:
    return tuple(Word(text, number / 2, number / 2 + 0.5) for number, text in enumerate(texts))


def test_who_speaks_longest_is_the_speaker_even_in_several_turns() -> None:
    turns = (SpeakerTurn(0.0, 1.0, 0), SpeakerTurn(1.0, 1.8, 1), SpeakerTurn(1.8, 2.0, 2), SpeakerTurn(2.0, 2.8, 1))
    assert speaker_of(0.0, 2.8, turns) == "SPEAKER_01"
    assert speaker_of(0.0, 1.2, turns) == "SPEAKER_00"


def test_the_nearest_turn_counts_where_nobody_speaks() -> None:
    turns = (SpeakerTurn(0.0, 1.0, 0), SpeakerTurn(5.0, 6.0, 12))
    assert speaker_of(1.5, 2.0, turns) == "SPEAKER_00"
    assert speaker_of(4.0, 4.5, turns) == "SPEAKER_12"


def test_a_segment_is_split_where_clauses_of_two_speakers_meet() -> None:
    segment = Segment(text="Yes, please. No, thanks!", start=0.0, end=2.4, words=words("yes", "please", "no", "thanks"))
    first, second = split_by_speaker(segment, TURNS)
    assert (first.text, first.start, first.end, first.speaker) == ("Yes, please.", 0.0, 1.0, "SPEAKER_00")
    assert (second.text, second.start, second.end, second.speaker) == ("No, thanks!", 1.0, 2.4, "SPEAKER_01")
    assert first.words + second.words == segment.words


def test_of_an_unfinished_segment_the_last_part_is_unfinished() -> None:
    said = words("yes", "please", "no", "thanks")
    segment = Segment(text="Yes, please. No, thanks", start=0.0, end=2.4, words=said, cut_off=True)
    assert [part.cut_off for part in split_by_speaker(segment, TURNS)] == [False, True]
    assert [part.cut_off for part in split_by_speaker(segment, TURNS[:1])] == [True]


def test_a_segment_without_marks_or_times_of_words_has_one_speaker() -> None:
    turns = (SpeakerTurn(0.0, 0.8, 0), SpeakerTurn(0.8, 3.0, 1))
    for said in (words("yes", "please", "no", "thanks"), ()):
        (segment,) = split_by_speaker(Segment(text="yes please no thanks", start=0.0, end=2.4, words=said), turns)
        assert segment.speaker == "SPEAKER_01"
        assert segment.text == "yes please no thanks"


def test_clauses_of_one_speaker_stay_together() -> None:
    segment = Segment(
        text="好，好。好！", start=1.0, end=2.5, words=tuple(Word("好", 1 + n / 2, 1.4 + n / 2) for n in range(3))
    )
    (labelled,) = split_by_speaker(segment, TURNS)
    assert labelled == Segment(text=segment.text, start=1.0, end=2.5, words=segment.words, speaker="SPEAKER_01")


@given(st.lists(st.sampled_from(["a", "b,", "c.", "好", "吗？"]), min_size=1, max_size=12), st.integers(0, 3))
def test_splitting_loses_no_word_and_no_letter(texts: list[str], speakers: int) -> None:
    said = tuple(Word(text.rstrip(",.？"), n / 2, n / 2 + 0.5) for n, text in enumerate(texts))
    whole = Segment(text=" ".join(texts), start=0.0, end=len(texts) / 2, words=said)
    turns = [SpeakerTurn(float(second), second + 1.0, second % (speakers + 1)) for second in range(6)]
    parts = list(split_by_speaker(whole, turns))
    assert tuple(word for part in parts for word in part.words) == said
    assert " ".join(part.text for part in parts) == whole.text
    assert (parts[0].start, parts[-1].end) == (whole.start, whole.end)
    assert all(one.speaker != two.speaker for one, two in zip(parts, parts[1:], strict=False))


def test_segments_have_the_speakers_of_the_turns_and_the_diarizer_is_given_the_speech() -> None:
    helper = diarizer(SpeakerTurn(0.0, 1.0, 0), SpeakerTurn(2.0, 3.0, 1))
    transcriber = Transcriber(Recognizer().model, vad=detector((0.0, 1.0), (2.0, 3.0)), diarizer=helper)
    transcript = transcriber.transcribe(noise(3), speakers=2)
    assert [segment.speaker for segment in transcript.segments] == ["SPEAKER_00", "SPEAKER_01"]
    assert helper.settings["given"] == ([(0.0, 1.0), (2.0, 3.0)], 2)
    assert transcript.to_dict()["segments"][1]["speaker"] == "SPEAKER_01"


def test_words_of_the_aligner_split_segments_too() -> None:
    recognizer = model(
        "marked", recognize=lambda model, waveforms, *_: [Recognition(text="yes. no.") for _ in waveforms]
    )
    helper = diarizer(SpeakerTurn(0.0, 0.1, 0), SpeakerTurn(0.1, 1.0, 1))

    def align(model: Any, waveform: Any, text: str, language: str | None) -> list[Word]:
        return [Word("yes", 0.0, 0.1), Word("no", 0.1, 0.3)]

    words_of = model("times", "alignment", align=align)
    transcriber = Transcriber(recognizer, vad=detector((0.0, 1.0)), aligner=words_of, diarizer=helper)
    assert [(part.text, part.speaker) for part in transcriber.segments(noise(1))] == [
        ("yes.", "SPEAKER_00"),
        ("no.", "SPEAKER_01"),
    ]


def test_work_without_a_segment_yet_is_a_step_and_is_reported_and_can_be_cancelled() -> None:
    transcriber = Transcriber(Recognizer().model, vad=detector((0.0, 1.0)), diarizer=diarizer(*TURNS))
    steps = list(transcriber.steps(noise(1)))
    assert steps[:2] == [None, None]
    assert [step.speaker for step in steps[2:] if step is not None] == ["SPEAKER_00"]
    tasks: list[tuple[str, int, int]] = []
    transcriber.transcribe(noise(3), progress=lambda *report: tasks.append(report))
    assert ("diarize", 1, 3) in tasks
    answers = iter([False, True])
    with pytest.raises(CancelledError):
        transcriber.transcribe(noise(1), cancelled=lambda: next(answers, True))


def test_speech_without_any_is_transcribed_to_nothing() -> None:
    transcriber = Transcriber(Recognizer().model, vad=detector(), diarizer=diarizer())
    assert transcriber.transcribe(noise(1)).segments == ()


def test_the_recognizers_companion_tells_speakers_apart() -> None:
    recognizer = Recognizer()
    recognizer.model.companions = {"vad": detector((0.0, 1.0)), "spk": diarizer(*TURNS)}
    assert Transcriber(recognizer.model).transcribe(noise(1)).segments[0].speaker == "SPEAKER_00"


def test_wrong_use_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="give a model for voice activity too"):
        Transcriber(Recognizer().model, diarizer=diarizer())
    with pytest.raises(UsageError, match="a model of aligner does not tell speakers apart"):
        Transcriber(Recognizer().model, vad=detector(), diarizer=aligner())
    with pytest.raises(UsageError, match="speakers=2: give a model that tells speakers apart too"):
        Transcriber(Recognizer().model).transcribe(noise(1), speakers=2)
    transcriber = Transcriber(Recognizer().model, vad=detector(), diarizer=diarizer())
    with pytest.raises(UsageError, match="speakers=0: there is at least one"):
        transcriber.transcribe(noise(1), speakers=0)


def test_a_diarizer_that_fails_is_named() -> None:
    broken = model("broken", "speaker-diarization", diarize=lambda *_: iter([1 / 0]))
    with pytest.raises(SourceError, match="models/broken: the model does not run"):
        Transcriber(Recognizer().model, vad=detector((0.0, 1.0)), diarizer=broken).transcribe(noise(1))


def test_the_language_is_the_models_where_it_tells_one_and_the_users_otherwise() -> None:
    for heard, said, expected in (
        ("fr", "English", "fr"),
        (None, "English", "en"),
        ("fr", None, "fr"),
        (None, None, None),
    ):
        transcript = Transcriber(Recognizer(language=heard).model).transcribe(noise(1), language=said)
        assert transcript.language == expected
