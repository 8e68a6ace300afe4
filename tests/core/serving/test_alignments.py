"""Words of a known text get their times."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from core.serving.servers import SAID, SPEECH, load, running


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(load("tiny-aligner")) as address:
        yield address


def post(url: str, **fields: str) -> httpx2.Response:
    files = {"file": ("a.flac", SPEECH.read_bytes())}
    return httpx2.post(f"{url}/v1/audio/alignments", files=files, data=fields, timeout=30)


def test_words_have_times_in_order(url: str) -> None:
    answer = post(url, text=f"{SAID}。", language="zh").json()
    assert "".join(word["word"] for word in answer["words"]) == SAID
    starts = [word["start"] for word in answer["words"]]
    assert starts == sorted(starts)
    assert 0 < answer["words"][-1]["end"] <= answer["duration"] == pytest.approx(2.724, abs=0.01)


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({}, 400, "'text'"),
        ({"text": "。。。"}, 400, "no words"),
        ({"text": SAID, "language": "Klingonese"}, 400, "language"),
        ({"text": SAID, "language": "sw"}, 400, "languages"),
        ({"text": SAID, "model": "other"}, 404, "loaded: tiny-aligner"),
        ({"text": SAID, "format": "srt"}, 400, "format"),
    ],
)
def test_what_cannot_be_aligned_is_refused(url: str, fields: dict[str, str], status: int, part: str) -> None:
    answer = post(url, **fields)
    assert answer.status_code == status
    assert part in answer.json()["error"]["message"]


def test_an_aligner_does_not_transcribe(url: str) -> None:
    answer = httpx2.post(f"{url}/v1/audio/transcriptions", files={"file": ("a.flac", SPEECH.read_bytes())})
    assert answer.status_code == 400
    assert "does not transcribe" in answer.json()["error"]["message"]


def test_a_service_without_an_aligner_says_how_to_get_one() -> None:
    with running(load("tiny-paraformer")) as address:
        answer = post(address, text=SAID)
    assert answer.status_code == 400
    assert "--aligner" in answer.json()["error"]["message"]
