"""``sottovoce align`` on a toy family: what the verb asks of an architecture, and no more."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from core.commands import Runner
from core.toy import ToyPlugin, make_host, make_model


class Found:
    """What an architecture's ``align`` returns."""

    words = (SimpleNamespace(text="a", start=0.0, end=0.5),)

    def to_json(self) -> str:
        return json.dumps({"duration": 1.0, "words": [{"text": "a", "start": 0.0, "end": 0.5}]})

    def to_srt(self) -> str:
        return "1\n00:00:00,000 --> 00:00:00,500\na\n"

    def to_textgrid(self) -> str:
        return "a grid"


@pytest.fixture
def calls() -> list[Any]:
    return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], calls: list[Any]) -> Runner:
    def align(model: Any, audio: Path, text: str, *, progress: Any, **options: Any) -> Found:
        calls.append((type(model.module).__name__, audio.name, text, options))
        progress(1, 1)
        return Found()

    toys = make_host(ToyPlugin(task="alignment", align=align))
    for module in ("plugins.host", "entrypoints.load"):
        monkeypatch.setattr(f"sottovoce.{module}.default_host", lambda: toys)
    return Runner(monkeypatch, capfd)


@pytest.fixture
def given(tmp_path: Path) -> list[str | Path]:
    soundfile.write(tmp_path / "a.wav", np.zeros(1600, dtype=np.float32), 16000)
    return ["align", make_model(tmp_path / "toy"), tmp_path / "a.wav", "--text", "a"]


def test_the_family_decides_on_the_language_unless_told(run: Runner, given: list[str | Path], calls: list[Any]) -> None:
    assert run(*given).code == 0
    assert run(*given, "--language", "en").code == 0
    assert calls == [("Toy", "a.wav", "a", {}), ("Toy", "a.wav", "a", {"language": "en"})]


def test_it_prints_what_was_asked_for(run: Runner, given: list[str | Path]) -> None:
    assert run(*given, "-f", "srt").out == Found().to_srt()
    assert run(*given, "-f", "textgrid").out == "a grid\n"
    assert run(*given, "-f", "srt", "--json").json == json.loads(Found().to_json())
    assert "1 words in 1.00 s" in run(*given).out


def test_it_writes_what_was_asked_for(run: Runner, given: list[str | Path], tmp_path: Path) -> None:
    output = tmp_path / "a.srt"
    form = run(*given, "-o", output, "--json").json
    assert form == json.loads(Found().to_json()) | {"output": str(output)}
    assert output.read_text(encoding="utf-8") == Found().to_srt()
    run(*given, "-o", output).fails(2, "exists already")
    assert run(*given, "-o", output, "-f", "textgrid", "--overwrite").err == f"{output}: 1 words\n"
    assert output.read_text(encoding="utf-8") == "a grid"
    assert oct(output.stat().st_mode & 0o777) == oct((tmp_path / "a.wav").stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("thesis.txt", "years of work", "is no alignment"),
        ("a.docx", "PK\x03\x04", "is no alignment"),
        ("photo", "\udcff\udcd8", "is no alignment"),
        ("data.ndjson", '{"key": 1}', "is no alignment"),
    ],
)
def test_overwrite_replaces_no_file_but_an_alignment(
    name: str, content: str, problem: str, run: Runner, given: list[str | Path], tmp_path: Path
) -> None:
    output = tmp_path / name
    output.write_bytes(content.encode("utf-8", "surrogateescape"))
    run(*given, "-o", output, "-f", "srt", "--overwrite").fails(2, str(output), problem)
    assert output.read_bytes() == content.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("form", ["srt", "json"])
def test_an_earlier_alignment_of_any_name_is_replaced(
    form: str, run: Runner, given: list[str | Path], tmp_path: Path
) -> None:
    output = tmp_path / "lines.txt"
    begun = {"srt": Found().to_srt(), "json": '{"language": "en", "duration": 1.0, "text": "a", "words": []}'}[form]
    output.write_text(begun, encoding="utf-8")
    assert run(*given, "-o", output, "-f", "textgrid", "--overwrite").code == 0
    assert output.read_text(encoding="utf-8") == "a grid"


def test_what_is_aligned_is_never_replaced(run: Runner, given: list[str | Path], tmp_path: Path) -> None:
    audio, link = tmp_path / "a.wav", tmp_path / "link.srt"
    link.symlink_to(audio)
    before = audio.read_bytes()
    for output in (audio, link):
        run(*given, "-o", output, "-f", "srt", "--overwrite").fails(2, "is what is aligned")
    assert audio.read_bytes() == before


def test_a_pipe_is_not_replaced_by_a_file(run: Runner, given: list[str | Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.srt")
    run(*given, "-o", tmp_path / "pipe.srt", "--overwrite").fails(2, "is no file but a device or a pipe")
    assert (tmp_path / "pipe.srt").is_fifo()
