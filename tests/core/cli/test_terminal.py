"""The command line in any terminal: without arguments, and in encodings that lack characters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.commands import Runner, command, toy_runner
from core.toy import ToyPlugin


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin())


def test_no_arguments_print_the_help(run: Runner) -> None:
    done = run()
    assert (done.code, done.err) == (0, "")
    assert done.out == run("--help").out
    assert len(done.out.splitlines()) > 20


@pytest.mark.parametrize("encoding", ["ascii"])
def test_characters_outside_the_encoding_are_escaped(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "grüße-灯.yaml"
    settings = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = command("inspect", path, environment=settings)
    assert done.code != 0
    assert done.err.count("\n") == 1 and "this is a bug" not in done.err
    assert command("recipes", environment=settings).code == 0
    assert json.loads(command("recipes", "--json", environment=settings).out)


def test_json_is_ascii_if_the_encoding_lacks_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import io

    from sottovoce.cli.output import Output
    from sottovoce.cli.streams import show_any_character

    for encoding in ("ascii", "cp1252", "gbk"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding)
        monkeypatch.setattr("sys.stdout", stream)
        show_any_character()
        out = Output(as_json=True, quiet=False)
        form = {"text": "é灯😀"}
        out.json(form)
        assert json.loads(raw.getvalue().decode(encoding)) == form
        out.text("é灯😀")
        stream.flush()
        assert raw.getvalue().decode(encoding).splitlines()[-1].startswith(("é", "\\xe9"))
