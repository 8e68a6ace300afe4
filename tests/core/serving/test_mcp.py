"""Tools over the Model Context Protocol, called by its official client over loopback."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import soundfile

from core.serving.servers import EXAMPLES, SAID, SPEECH, load, running
from sottovoce import Sample, read_samples
from sottovoce.errors import UsageError
from sottovoce.serving.keys import Keys
from sottovoce.serving.run import require_packages
from sottovoce.serving.settings import Limits

pytest.importorskip("gradio")
gradio_client = pytest.importorskip("gradio_client")
mcp = pytest.importorskip("mcp", reason="the extra `mcp` serves tools")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the client's own transport

AUDIO = base64.b64encode(SPEECH.read_bytes()).decode()
KEY = "a-long-secret"
TASKS = EXAMPLES / "data/omni-tasks/test.jsonl"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(load("tiny-paraformer", aligner="tiny-aligner"), page=True, mcp=True) as address:
        yield address


def with_session(url: str, use: Any, **headers: str) -> Any:
    """What a function of the client's session returns."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def run() -> Any:
        async with (
            streamablehttp_client(f"{url}/gradio_api/mcp/", headers=headers or None) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await use(session)

    return asyncio.run(asyncio.wait_for(run(), 60))


def call(url: str, tool: str, headers: dict[str, str] | None = None, **arguments: Any) -> tuple[bool, str]:
    """Whether a tool fails, and its text."""
    result = with_session(url, lambda session: session.call_tool(tool, arguments), **(headers or {}))
    return bool(result.isError), "".join(part.text for part in result.content)


def test_tools_are_listed_with_what_they_do_and_take(url: str) -> None:
    tools = {tool.name: tool for tool in with_session(url, lambda session: session.list_tools()).tools}
    assert set(tools) == {"transcribe", "align"}
    assert tools["transcribe"].description.startswith("Write down what is said in a recording")
    schema = tools["transcribe"].inputSchema
    assert set(schema["properties"]) == {"audio", "language", "hotwords", "format"}
    assert "base64" in schema["properties"]["audio"]["description"]
    assert tools["align"].inputSchema["properties"]["text"]["type"] == "string"


def test_a_recording_is_transcribed_in_the_format_that_is_wanted(url: str) -> None:
    assert call(url, "transcribe", audio=AUDIO) == (False, f"{SAID}\n")
    failed, text = call(url, "transcribe", audio=f"data:audio/flac;base64,{AUDIO}", language="zh", format="json")
    assert not failed
    form = json.loads(text)
    assert form["text"] == SAID
    assert len(form["segments"][0]["words"]) == len(SAID)


def test_words_are_aligned(url: str) -> None:
    failed, text = call(url, "align", audio=AUDIO, text=SAID, language="zh")
    assert not failed
    assert "".join(word["text"] for word in json.loads(text)["words"]) == SAID


def test_an_upload_is_named_by_its_path_and_other_files_are_not_read(url: str, tmp_path: Path) -> None:
    upload = httpx2.post(f"{url}/gradio_api/upload", files={"files": ("a.flac", SPEECH.read_bytes())}, timeout=30)
    (path,) = upload.json()
    assert call(url, "transcribe", audio=path) == (False, f"{SAID}\n")
    for other in (str(SPEECH), f"{Path(path).parents[1]}/../{SPEECH.name}", "http://127.0.0.1:9/a.wav"):
        failed, text = call(url, "transcribe", audio=other)
        assert failed
        assert "this service fetches nothing" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"audio": ""}, "and not empty"),
        ({"audio": "!!"}, "must be the base64"),
        ({"audio": base64.b64encode(b"garbage" * 50).decode()}, "the audio: cannot be read as audio"),
        ({"audio": AUDIO, "format": "doc"}, "format='doc' is unknown"),
        ({"audio": AUDIO, "language": "klingonish"}, "'klingonish' is not a language"),
        ({"audio": AUDIO, "hotwords": "灯"}, "takes no hotwords"),
    ],
)
def test_what_is_wrong_is_said_and_the_service_keeps_working(url: str, arguments: dict[str, Any], message: str) -> None:
    failed, text = call(url, "transcribe", **arguments)
    assert failed
    assert message in text
    assert not text.endswith(("'", '"'))
    assert "/tmp" not in text
    assert httpx2.get(f"{url}/health").json()["running"] == 0


def test_gradios_own_client_hears_what_is_wrong_and_the_log_has_nothing_of_it(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    client = gradio_client.Client(url, verbose=False)
    assert client.predict(AUDIO, "zh", "", "txt", api_name="/transcribe") == f"{SAID}\n"
    for arguments, message in (
        ((AUDIO, "zz", "", "txt"), "'zz' is not a language"),
        (("", "", "", "txt"), "not empty"),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=message):
            client.predict(*arguments, api_name="/transcribe")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_keys_and_limits_hold_for_tools_too() -> None:
    limits = Limits(upload_bytes=2 * len(AUDIO), audio_seconds=1)
    with running(load("tiny-paraformer"), page=True, mcp=True, keys=Keys((KEY,)), limits=limits) as url:
        assert httpx2.post(f"{url}/gradio_api/mcp/", json={}).status_code == 401
        assert httpx2.post(f"{url}/gradio_api/run/transcribe", json={"data": [AUDIO, "", "", "txt"]}).status_code == 401
        bearer = {"Authorization": f"Bearer {KEY}"}
        failed, text = call(url, "transcribe", headers=bearer, audio=AUDIO)
        assert failed
        assert "this service takes 1 at most" in text
        large = httpx2.post(f"{url}/gradio_api/mcp/", headers=bearer, json={"x": AUDIO * 3})
        assert large.status_code == 413
        metrics = httpx2.get(f"{url}/metrics", headers=bearer).text
        assert 'path="mcp",status="401"' in metrics
        assert 'path="mcp",status="200"' in metrics


def test_a_service_without_tools_has_none() -> None:
    with running(load("tiny-paraformer"), page=True) as url:
        answer = httpx2.post(
            f"{url}/gradio_api/mcp/", json={}, headers={"Accept": "application/json, text/event-stream"}
        )
        assert answer.status_code in (404, 405)
        assert httpx2.post(f"{url}/gradio_api/run/transcribe", json={"data": []}).status_code in (404, 422, 500)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    original = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("sottovoce.serving.run.find_spec", lambda name: None if name == "mcp" else original(name))
    with pytest.raises(UsageError, match="needs the extra 'mcp'; pip install 'mcp<2'"):
        require_packages(True, True)
    require_packages(True)


@pytest.fixture(scope="module")
def omni() -> Iterator[str]:
    with running(load("tiny-omni"), page=True, mcp=True, limits=Limits(audio_seconds=30)) as address:
        yield address


def task(kind: str) -> tuple[Sample, str]:
    """A task that the model was trained for, and its question."""
    sample = next(sample for sample in read_samples(TASKS) if sample.modality == kind)
    content = sample.messages[0]["content"]
    return sample, content if isinstance(content, str) else content[-1]["text"]


def answer_to(sample: Sample) -> str:
    """The model's own answer to a task."""
    model = load("tiny-omni").first.model
    prediction = model.architecture.runner.predict(model, sample)
    assert prediction.text
    assert not prediction.cut_off
    return prediction.text


def test_an_omni_model_has_one_tool_that_needs_a_question_alone(omni: str) -> None:
    (tool,) = with_session(omni, lambda session: session.list_tools()).tools
    assert tool.name == "ask"
    assert tool.description.startswith("Answer a question, about a recording if one is given")
    assert set(tool.inputSchema["properties"]) == {"question", "audio"}


def test_a_question_is_answered_as_the_model_answers_it(omni: str) -> None:
    sample, question = task("text")
    assert call(omni, "ask", question=question) == (False, answer_to(sample))


def test_a_recording_is_asked_about_by_its_content_or_its_upload(omni: str) -> None:
    sample, question = task("audio")
    (recording,) = sample.spoken
    audio = base64.b64encode(recording.read_bytes()).decode()
    expected = answer_to(sample)
    assert call(omni, "ask", question=question, audio=audio) == (False, expected)
    assert call(omni, "ask", question=question, audio=f"data:audio/flac;base64,{audio}") == (False, expected)
    upload = httpx2.post(f"{omni}/gradio_api/upload", files={"files": ("a.flac", recording.read_bytes())}, timeout=30)
    assert call(omni, "ask", question=question, audio=upload.json()[0]) == (False, expected)


def test_an_answer_that_ends_at_the_limit_of_tokens_says_so(omni: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load("tiny-omni").first.model.native.generation_config
    monkeypatch.setattr(settings, "max_new_tokens", 1)
    failed, text = call(omni, "ask", question=task("text")[1])
    assert not failed
    assert text.endswith("\n[Not finished: the model's limit of tokens was reached.]\n")


def long_speech() -> str:
    """Half a minute and more, as base64."""
    file = io.BytesIO()
    soundfile.write(file, [0.0] * 16000 * 31, 16000, format="FLAC")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": ""}, "the question is missing"),
        ({"question": " \n "}, "the question is missing"),
        ({"question": "What?", "audio": "!!"}, "must be the base64"),
        ({"question": "What?", "audio": base64.b64encode(b"garbage" * 50).decode()}, "cannot be read as audio"),
        ({"question": "What?", "audio": str(SPEECH)}, "this service fetches nothing"),
        ({"question": "What?", "audio": long_speech()}, "this service takes 30 at most"),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(omni: str, arguments: dict[str, Any], message: str) -> None:
    failed, text = call(omni, "ask", **arguments)
    assert failed
    assert message in text
    assert "/tmp" not in text
    assert httpx2.get(f"{omni}/health").json()["running"] == 0


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("ask", {}), ("ask", {"question": "What?", "model": "another"}), ("transcribe", {"audio": AUDIO})],
)
def test_a_call_that_fits_no_tool_is_refused_and_the_service_keeps_working(
    omni: str, tool: str, arguments: dict[str, Any]
) -> None:
    assert call(omni, tool, **arguments)[0]
    assert not call(omni, "ask", question=task("text")[1])[0]
