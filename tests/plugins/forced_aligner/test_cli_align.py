"""``sottovoce align``: what it prints, what it writes, and what it does not replace."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import sottovoce
from core.commands import Runner
from sottovoce_forced_aligner import Alignment, align

TEXT = "打开"


@pytest.fixture(scope="module")
def loaded(model: Path) -> sottovoce.Model:
    return sottovoce.load(model)


@pytest.fixture
def expected(loaded: sottovoce.Model, audio: Path) -> Alignment:
    return align(loaded, audio, TEXT)


@pytest.fixture
def given(model: Path, audio: Path) -> list[str | Path]:
    return ["align", model, audio, "--text", TEXT, "--quiet"]


def test_the_family_decides_on_the_language_unless_told(
    run: Runner, given: list[str | Path], loaded: sottovoce.Model, audio: Path, expected: Alignment
) -> None:
    assert run(*given, "--json").json == json.loads(expected.to_json())
    told = align(loaded, audio, TEXT, "English")
    assert run(*given, "--json", "--language", "en").json == json.loads(told.to_json())
    assert (expected.language, told.language) == ("Chinese", "English")


def test_it_prints_what_was_asked_for(run: Runner, given: list[str | Path], expected: Alignment) -> None:
    assert run(*given, "-f", "srt").out == expected.to_srt()
    assert run(*given, "-f", "textgrid").out == expected.to_textgrid()
    assert run(*given, "-f", "srt", "--json").json == json.loads(expected.to_json())
    assert "2 words in 2.00 s" in run(*given).out


def test_it_writes_what_was_asked_for(
    run: Runner, given: list[str | Path], expected: Alignment, tmp_path: Path
) -> None:
    output = tmp_path / "a.srt"
    form = run(*given, "-o", output, "--json").json
    assert form == json.loads(expected.to_json()) | {"output": str(output)}
    assert output.read_text(encoding="utf-8") == expected.to_srt()
    run(*given, "-o", output).fails(2, "exists already")
    done = run(*given[:-1], "-o", output, "-f", "textgrid", "--overwrite")
    assert done.err.endswith(f"{output}: 2 words\n")
    assert output.read_text(encoding="utf-8") == expected.to_textgrid()
    assert oct(output.stat().st_mode & 0o777) == oct((tmp_path / "a.wav").stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("thesis.txt", "years of work", "is not an alignment"),
        ("a.docx", "PK\x03\x04", "is not an alignment"),
        ("photo", "\udcff\udcd8", "is not an alignment"),
        ("data.ndjson", '{"key": 1}', "is not an alignment"),
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
    form: str, run: Runner, given: list[str | Path], expected: Alignment, tmp_path: Path
) -> None:
    output = tmp_path / "lines.txt"
    earlier = {"srt": expected.to_srt(), "json": '{"language": "en", "duration": 1.0, "text": "a", "words": []}'}[form]
    output.write_text(earlier, encoding="utf-8")
    assert run(*given, "-o", output, "-f", "textgrid", "--overwrite").code == 0
    assert output.read_text(encoding="utf-8") == expected.to_textgrid()


def test_what_is_aligned_is_never_replaced(run: Runner, given: list[str | Path], tmp_path: Path) -> None:
    audio, link = tmp_path / "a.wav", tmp_path / "link.srt"
    link.symlink_to(audio)
    before = audio.read_bytes()
    for output in (audio, link):
        run(*given, "-o", output, "-f", "srt", "--overwrite").fails(2, "is what is aligned")
    assert audio.read_bytes() == before


def test_a_pipe_is_not_replaced_by_a_file(run: Runner, given: list[str | Path], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.srt")
    run(*given, "-o", tmp_path / "pipe.srt", "--overwrite").fails(2, "is not a file but a device or a pipe")
    assert (tmp_path / "pipe.srt").is_fifo()
