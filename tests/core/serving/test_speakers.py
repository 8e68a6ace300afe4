"""Speakers over the API: with every segment of verbose_json, and in OpenAI's diarized_json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import openai
import pytest

from core.serving.servers import MODELS, SPEECH, client, load, running
from core.transcription.families import Recognizer, detector, diarizer
from sottovoce import SpeakerTurn
from sottovoce.errors import UsageError
from sottovoce.serving.models import ServedModels, arrange
from sottovoce.transcription.transcriber import Transcriber

TURNS = (SpeakerTurn(0.0, 1.0, 4), SpeakerTurn(1.0, 3.0, 0))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    vad = detector((0.0, 1.0), (1.0, 2.0), (2.0, 2.7))
    transcriber = Transcriber(Recognizer(language="en").model, vad=vad, diarizer=diarizer(*TURNS))
    first = replace(load("tiny-paraformer").first, transcriber=transcriber)
    with running(ServedModels((first,))) as address:
        yield address


def test_segments_of_verbose_json_have_a_speaker(url: str) -> None:
    answer = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="verbose_json")
    said = [segment.model_extra["speaker"] for segment in answer.segments or ()]  # type: ignore[index]
    assert said == ["SPEAKER_04", "SPEAKER_00", "SPEAKER_00"]
    assert answer.language == "english"


def test_diarized_json_is_openais_with_letters_in_the_order_of_speaking(url: str) -> None:
    answer = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="diarized_json")
    assert answer.task == "transcribe"
    assert [segment.speaker for segment in answer.segments] == ["A", "B", "B"]
    assert [segment.id for segment in answer.segments] == ["seg_000", "seg_001", "seg_002"]
    assert answer.segments[1].start == 1.0
    assert answer.text == "long 10 long 10 long 7"
    assert answer.usage is not None and answer.usage.seconds == 3  # type: ignore[union-attr]


def test_a_stream_of_diarized_json_has_the_segments(url: str) -> None:
    stream = client(url).audio.transcriptions.create(
        model="whisper-1", file=SPEECH, response_format="diarized_json", stream=True
    )
    events = list(stream)
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [segment.speaker for segment in segments] == ["A", "B", "B"]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == events[-1].text


def test_text_of_subtitles_names_the_speakers(url: str) -> None:
    text = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="vtt")
    assert "<v SPEAKER_04>long 10" in text


def test_a_service_that_tells_no_speakers_apart_says_how_to_start_one() -> None:
    with running(load("tiny-paraformer")) as url:
        with pytest.raises(openai.BadRequestError, match="start it with --vad and --spk"):
            client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="diarized_json")
        answer = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="verbose_json")
        assert "speaker" not in json.loads(answer.model_dump_json())["segments"][0]


def test_names_of_known_speakers_are_refused(url: str) -> None:
    answer = httpx2.post(
        f"{url}/v1/audio/transcriptions",
        files={"file": ("a.flac", SPEECH.read_bytes())},
        data={"known_speaker_names[]": "Ann"},
        timeout=30,
    )
    assert answer.status_code == 400
    assert "tells speakers apart, and knows none by name" in answer.json()["error"]["message"]


def test_a_diarizer_is_for_models_that_transcribe_and_needs_voice_activity() -> None:
    import sottovoce

    aligner = sottovoce.load(MODELS / "tiny-aligner")
    with pytest.raises(UsageError, match="--spk is for models that transcribe"):
        arrange(aligner, diarizer=diarizer())
    with pytest.raises(UsageError, match="give a model for voice activity too"):
        arrange(sottovoce.load(MODELS / "tiny-paraformer"), diarizer=diarizer())
