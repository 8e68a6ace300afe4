"""``sottovoce align`` on a toy family: what the verb asks of an architecture, and no more."""

from __future__ import annotations

import json
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
    for module in ("host", "loading"):
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
