"""The official client asks an omni model about text, audio and pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from core.serving.servers import EXAMPLES, SPEECH, client, load, running
from sottovoce import read_samples
from sottovoce.serving.settings import Limits

TASKS = EXAMPLES / "data/omni-tasks/test.jsonl"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(load("tiny-omni")) as address:
        yield address


def messages_of(kind: str) -> tuple[list[dict[str, Any]], Any]:
    """A task's question in OpenAI's form, and its sample."""
    sample = next(sample for sample in read_samples(TASKS) if sample.modality == kind)
    question = [message for message in sample.messages if message["role"] != "assistant"]
    return [{**message, "content": _content(message["content"])} for message in question], sample


def _content(content: Any) -> Any:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return part
    data = base64.b64encode(Path(part[part["type"]]).read_bytes()).decode()
    if part["type"] == "audio":
        return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def ask(url: str, messages: Any, **options: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json={"messages": messages, **options}, timeout=30)


@pytest.mark.parametrize("kind", ["text", "audio", "image"])
def test_the_answer_is_the_models_own(url: str, kind: str) -> None:
    messages, sample = messages_of(kind)
    model = load("tiny-omni").first.model
    expected = model.architecture.runner.predict(model, sample).text
    answer = client(url).chat.completions.create(model="tiny-omni", messages=messages)
    assert answer.choices[0].message.content == expected
    assert expected


def test_a_stream_gives_the_same_answer(url: str) -> None:
    messages, _ = messages_of("text")
    whole = client(url).chat.completions.create(model="tiny-omni", messages=messages).choices[0].message.content
    chunks = list(client(url).chat.completions.create(model="tiny-omni", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_an_answer_that_is_cut_off_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    messages, _ = messages_of("text")
    assert ask(url, messages).json()["choices"][0]["finish_reason"] == "stop"
    settings = load("tiny-omni").first.model.native.generation_config
    monkeypatch.setattr(settings, "max_new_tokens", 1)
    assert ask(url, messages).json()["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_has_as_many_tokens_as_the_request_allows(url: str, name: str) -> None:
    messages, sample = messages_of("text")
    model = load("tiny-omni").first.model
    whole = model.architecture.runner.predict(model, sample)
    assert len(whole.tokens) > 2
    choice = ask(url, messages, **{name: 1}).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"] == model.processor.tokenizer.decode([int(whole.tokens[0])])
    assert ask(url, messages, **{name: 200}).json()["choices"][0]["finish_reason"] == "stop"
    assert ask(url, messages, **{name: None}).json()["choices"][0]["message"]["content"] == whole.text


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many"])
def test_a_length_that_is_none_is_refused(url: str, value: Any) -> None:
    answer = ask(url, messages_of("text")[0], max_tokens=value)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "max_tokens"


def test_two_lengths_that_differ_are_refused(url: str) -> None:
    messages, _ = messages_of("text")
    assert ask(url, messages, max_tokens=3, max_completion_tokens=3).status_code == 200
    assert "differ" in ask(url, messages, max_tokens=3, max_completion_tokens=4).json()["error"]["message"]


def user(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    ("messages", "part"),
    [
        (None, "messages"),
        ([], "messages"),
        ([{"role": "robot", "content": "x"}], "role"),
        ([{"role": "user", "content": 5}], "content"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "user's"),
        (user({"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}), "fetches nothing"),
        (user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}), "fetches nothing"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}), "image"),
        (user({"type": "image_url", "image_url": {"url": "data:image/png,AAAA"}}), "base64"),
        (user({"type": "input_audio", "input_audio": {"data": "AAAA"}}), "the audio"),
        (user({"type": "input_audio", "input_audio": {"data": "not base64"}}), "base64"),
        (user({"type": "input_audio", "input_audio": {}}), "base64"),
        (user({"type": "video_url", "video_url": {"url": "x"}}), "a part is"),
    ],
)
def test_messages_that_cannot_be_read_are_refused(url: str, messages: Any, part: str) -> None:
    answer = ask(url, messages)
    assert answer.status_code == 400, answer.text
    assert part in answer.json()["error"]["message"]


def test_recording_that_cannot_be_read_is_named_among_several(url: str) -> None:
    data = [base64.b64encode(content).decode() for content in (SPEECH.read_bytes(), b"garbage" * 50)]
    parts = [{"type": "input_audio", "input_audio": {"data": content}} for content in data]
    error = ask(url, user(*parts)).json()["error"]
    assert error["param"] == "messages[0].content[1]"
    assert error["message"].startswith("messages[0].content[1]: the audio: cannot be read as audio")


@pytest.mark.parametrize(
    ("options", "said"), [({"n": 2}, "n=2"), ({"stop": ["8"]}, 'stop=["8"]'), ({"n": "2"}, 'n="2"')]
)
def test_value_that_cannot_be_honored_is_repeated_as_it_was_sent(url: str, options: dict[str, Any], said: str) -> None:
    answer = ask(url, [{"role": "user", "content": "x"}], **options)
    assert answer.json()["error"]["message"] == f"this service does not support {said}"


@pytest.mark.parametrize("options", [{"n": 2}, {"tools": []}, {"stream": "yes"}, {"modalities": ["audio"]}])
def test_options_that_cannot_be_honored_are_refused(url: str, options: dict[str, Any]) -> None:
    answer = ask(url, [{"role": "user", "content": "x"}], **options)
    assert answer.status_code == 400
    assert next(iter(options)) in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(url: str, body: bytes) -> None:
    answer = httpx2.post(f"{url}/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused() -> None:
    with running(load("tiny-omni"), limits=Limits(upload_bytes=1000)) as address:
        answer = httpx2.post(f"{address}/v1/chat/completions", content=json.dumps({"messages": "x" * 2000}))
    assert answer.status_code == 413


def test_a_model_that_transcribes_does_not_chat() -> None:
    with running(load("tiny-paraformer")) as address, pytest.raises(openai.BadRequestError, match="does not answer"):
        client(address).chat.completions.create(model="whisper-1", messages=[{"role": "user", "content": "x"}])
