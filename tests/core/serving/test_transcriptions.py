"""The official client gets what is said, in every format, from a server that listens."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from core.serving.servers import SAID, SPEECH, Paced, client, load, paced, running
from sottovoce.serving.settings import Limits


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(load("tiny-paraformer", aligner="tiny-aligner")) as address:
        yield address


def post(url: str, content: bytes | Path = SPEECH, **fields: str) -> httpx2.Response:
    data = content.read_bytes() if isinstance(content, Path) else content
    return httpx2.post(f"{url}/v1/audio/transcriptions", files={"file": ("a.flac", data)}, data=fields, timeout=30)


def refusal(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "/tmp" not in error["message"]
    assert "/proc" not in error["message"]
    return str(error["message"])


def test_json_is_the_default(url: str) -> None:
    assert client(url).audio.transcriptions.create(model="tiny-paraformer", file=SPEECH).text == SAID


def test_whisper_1_is_the_first_model(url: str) -> None:
    assert client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH).text == SAID


def test_text_is_plain_text(url: str) -> None:
    assert (
        client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="text").strip() == SAID
    )
    assert post(url, response_format="text").headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(("form", "mark"), [("srt", ","), ("vtt", ".")])
def test_subtitles_have_times(url: str, form: str, mark: str) -> None:
    text = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format=form)
    times = re.findall(rf"\d\d:\d\d:\d\d\{mark}\d\d\d --> \d\d:\d\d:\d\d\{mark}\d\d\d", text)
    assert len(times) == 1
    assert SAID in text
    assert text.startswith("WEBVTT") == (form == "vtt")


def test_verbose_json_has_segments(url: str) -> None:
    answer = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, response_format="verbose_json")
    assert answer.text == SAID
    assert answer.duration == pytest.approx(2.724, abs=0.01)
    assert answer.words is None
    assert [segment.text for segment in answer.segments or ()] == [SAID]


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities"])
def test_words_have_the_times_at_which_they_are_said(url: str, name: str) -> None:
    answer = post(url, response_format="verbose_json", language="zh", **{name: "word"}).json()
    assert "segments" not in answer
    assert answer["language"] == "chinese"
    assert "".join(word["word"] for word in answer["words"]) == SAID
    manifest = (SPEECH.parents[1] / "test.jsonl").read_text(encoding="utf-8").splitlines()
    truth = next(sample for sample in map(json.loads, manifest) if sample["key"] == SPEECH.stem)["words"]
    for word, true in zip(answer["words"], truth, strict=True):
        assert word["start"] == pytest.approx(true["start"], abs=0.3)
        assert word["end"] == pytest.approx(true["end"], abs=0.3)


def test_words_without_a_model_that_times_them_are_refused() -> None:
    with running(load("tiny-paraformer")) as address:
        answer = post(address, response_format="verbose_json", **{"timestamp_granularities[]": "word"})
    assert "--aligner" in refusal(answer, 400)


def test_words_that_nothing_times_are_refused_before_all_is_transcribed() -> None:
    transcriber = Paced(count=3)
    transcriber.released.release()  # the others never come
    with running(paced(transcriber)) as address:
        answer = post(address, response_format="verbose_json", **{"timestamp_granularities[]": "word"})
    assert "--aligner" in refusal(answer, 400)


def test_a_stream_gives_the_text_in_pieces(url: str) -> None:
    events = list(client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, stream=True))
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert events[0].delta == events[-1].text == SAID


def test_a_prompt_and_a_temperature_are_taken(url: str) -> None:
    answer = client(url).audio.transcriptions.create(model="whisper-1", file=SPEECH, prompt="客厅", temperature=0.2)
    assert answer.text == SAID


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"response_format": "xml"}, "verbose_json"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"language": "Klingonese"}, "language"),
        ({"hotwords": "客厅"}, "hotwords"),
        ({"stream": "perhaps"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "verbose_json"),
        ({"timestamp_granularities[]": "phone", "response_format": "verbose_json"}, "phone"),
        ({"include[]": "logprobs"}, "include"),
        ({"vad_filter": "true"}, "vad_filter"),
    ],
)
def test_a_field_that_cannot_be_honored_is_refused(url: str, fields: dict[str, str], part: str) -> None:
    assert part in refusal(post(url, **fields), 400)


def test_an_unknown_model_is_not_found(url: str) -> None:
    with pytest.raises(openai.NotFoundError, match="loaded: tiny-paraformer, tiny-aligner") as caught:
        client(url).audio.transcriptions.create(model="whisper-2", file=SPEECH)
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    "content", [b"\x00\x01garbage" * 500, b"RIFF\x00\x00\x00\x00WAVEfmt ", SPEECH.read_bytes()[:700]]
)
def test_garbage_is_refused_with_a_reason(url: str, content: bytes) -> None:
    assert "the audio" in refusal(post(url, content), 400)


def test_a_file_without_content_is_refused(url: str) -> None:
    assert "0 bytes" in refusal(post(url, b""), 400)


def test_a_form_with_two_files_is_refused(url: str) -> None:
    files = [("file", (name, SPEECH.read_bytes())) for name in ("a.flac", "b.flac")]
    answer = httpx2.post(f"{url}/v1/audio/transcriptions", files=files)
    assert refusal(answer, 400) == "the form has more than one file; send a request for each"


def test_a_form_without_a_file_is_refused(url: str) -> None:
    assert "'file'" in refusal(httpx2.post(f"{url}/v1/audio/transcriptions", data={"model": "whisper-1"}), 400)
    assert "multipart" in refusal(httpx2.post(f"{url}/v1/audio/transcriptions", json={}), 400)
    assert "multipart" in refusal(
        httpx2.post(f"{url}/v1/audio/transcriptions", content=b"x", headers={"content-type": "multipart/form-data"}),
        400,
    )


def test_another_address_and_another_method_are_refused(url: str) -> None:
    assert "no address" in refusal(httpx2.post(f"{url}/v1/images/generations"), 404)
    answer = httpx2.get(f"{url}/v1/audio/transcriptions")
    refusal(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_only_what_is_loaded_is_listed(url: str) -> None:
    assert [model.id for model in client(url).models.list()] == ["tiny-paraformer", "tiny-aligner"]
    assert client(url).models.retrieve("tiny-aligner").id == "tiny-aligner"
    with pytest.raises(openai.NotFoundError):
        client(url).models.retrieve("whisper-1")


def test_metrics_count_requests_and_audio(url: str) -> None:
    post(url)
    text = httpx2.get(f"{url}/metrics").text
    assert 'sottovoce_requests_total{path="/v1/audio/transcriptions",status="200"}' in text
    assert re.search(r'sottovoce_audio_seconds_total\{model="tiny-paraformer"\} [1-9]', text)
    assert 'sottovoce_model_size_bytes{model="tiny-paraformer"} 1.3' in text


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_is_too_large_is_refused_while_it_is_read(chunked: bool) -> None:
    with running(load("tiny-paraformer"), limits=Limits(upload_bytes=100_000)) as address:
        boundary = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        body = boundary + bytes(200_000) + b"\r\n--x--\r\n"
        headers = {"content-type": "multipart/form-data; boundary=x"}
        content = iter([body[:1000], body[1000:]]) if chunked else body
        answer = httpx2.post(f"{address}/v1/audio/transcriptions", content=content, headers=headers)
        assert "100000 bytes" in refusal(answer, 413)
        assert post(address).status_code == 200


def test_audio_that_is_too_long_is_refused() -> None:
    with running(load("tiny-paraformer"), limits=Limits(audio_seconds=2)) as address:
        assert "has 3 s, and this service takes 2" in refusal(post(address), 413)


def test_nothing_of_a_request_stays_on_disk_or_in_the_log(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with caplog.at_level(logging.DEBUG):
        assert post(url).status_code == 200
        assert post(url, b"garbage").status_code == 400
        httpx2.post(f"{url}/v1/audio/transcriptions?name=secret.flac", files={"file": ("secret.flac", b"x")})
    assert list(tmp_path.iterdir()) == []
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("sottovoce", "uvicorn"))]
    assert any(line.startswith("POST /v1/audio/transcriptions 200") for line in ours)
    assert not any("secret" in line or "a.flac" in line or SAID in line for line in ours)


def test_a_full_disk_is_said_and_the_service_keeps_working(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile.SpooledTemporaryFile, "write", fail)
        assert "no room" in refusal(post(url), 507)
    assert post(url).status_code == 200
