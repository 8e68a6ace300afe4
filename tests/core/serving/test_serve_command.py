"""``sottovoce serve``: what is wrong is said before a model is read; a service says where it is, and ends."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from core.commands import Runner
from core.serving.servers import MODELS, load, until
from sottovoce.errors import UsageError
from sottovoce.serving.models import arrange

MODEL = MODELS / "tiny-paraformer"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return Runner(monkeypatch, capfd)


@pytest.fixture
def no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("sottovoce.serving.loading.load", load)


@pytest.mark.usefixtures("no_model_is_loaded")
def test_a_port_in_use_is_said_before_a_model_is_loaded(run: Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run("serve", MODEL, "--port", str(port)).fails(2, f"127.0.0.1:{port}", "in use", "--port")


@pytest.mark.usefixtures("no_model_is_loaded")
def test_an_address_of_another_machine_is_said(run: Runner) -> None:
    run("serve", MODEL, "--host", "203.0.113.1").fails(2, "203.0.113.1", "address")


@pytest.mark.usefixtures("no_model_is_loaded")
def test_missing_packages_are_named(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("sottovoce.serving.run.find_spec", lambda name: None if name == "gradio" else find(name))
    run("serve", MODEL, "--port", "0").fails(2, "pip install gradio")


@pytest.mark.usefixtures("no_model_is_loaded")
@pytest.mark.parametrize("size", ["many", "-1", "0"])
def test_a_size_that_is_none_is_said(run: Runner, size: str) -> None:
    run("serve", MODEL, "--max-upload", size).fails(2, "--max-upload", "not a size")


@pytest.mark.usefixtures("no_model_is_loaded")
def test_keys_that_are_none_are_said(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_API_KEYS", "a,b")
    run("serve", MODEL, "--port", "0").fails(2, "SOTTOVOCE_API_KEYS")


@pytest.mark.parametrize(
    ("place", "name", "part"),
    [
        ("compared", "tiny-aligner", "--compare takes a model for transcription"),
        ("aligner", "tiny-paraformer", "does not align"),
        ("vad", "tiny-aligner", "does not detect"),
        ("punctuation", "tiny-aligner", "does not punctuate"),
    ],
)
def test_a_model_in_the_wrong_place_is_said(place: str, name: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        arrange(load("tiny-paraformer").first.model, **{place: load(name).first.model})


def test_a_helper_of_a_model_that_does_not_transcribe_is_refused() -> None:
    with pytest.raises(UsageError, match="--vad is for models that transcribe"):
        arrange(load("tiny-aligner").first.model, vad=load("tiny-paraformer").first.model)


def test_a_service_says_where_it_is_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sottovoce", "serve", str(MODEL), "--port", "0", "--json"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert ready["models"] == ["tiny-paraformer"]
            assert httpx2.get(f"{ready['url']}/health").json()["status"] == "ok"
            assert "Sottovoce" in httpx2.get(ready["url"]).text
            process.send_signal(signal.SIGTERM)
            until(lambda: process.poll() is not None)
        finally:
            process.kill()
        assert process.stderr is not None
        messages = process.stderr.read()
    assert process.returncode == 0, messages
    assert "Traceback" not in messages
    assert list(tmp_path.glob("sottovoce-*")) == []
