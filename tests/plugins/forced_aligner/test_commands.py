"""``sottovoce align``: the formats, the files, the errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sottovoce
from core.commands import Runner, command
from core.toy import ToyPlugin
from core.toy import make_model as make_toy
from sottovoce.plugins import host
from sottovoce.system.audio import _note_resampling
from sottovoce_forced_aligner import Alignment, align

TEXT = "打开，客厅的灯。"


def said(found: Alignment) -> str:
    """What standard error has of an alignment: a model of random weights is doubted."""
    return "".join(f"warning: {sentence}\n" for sentence in found.warnings)


def test_a_process_of_its_own_says_nothing_but_the_result(model: Path, audio: Path) -> None:
    done = command("align", model, audio, "--text", TEXT, "-f", "srt")
    assert (done.code, done.err) == (0, said(align(sottovoce.load(model), audio, TEXT)))
    assert done.out.startswith("1\n00:00:")


def test_each_format_is_what_the_library_gives(run: Runner, model: Path, audio: Path) -> None:
    found = align(sottovoce.load(model), audio, TEXT)
    for form, expected in (
        ("srt", found.to_srt()),
        ("textgrid", found.to_textgrid()),
        ("json", found.to_json() + "\n"),
    ):
        done = run("align", model, audio, "--text", TEXT, "--format", form)
        assert (done.code, done.out, done.err) == (0, expected, said(found))
    form = run("align", model, audio, "--text", TEXT, "--json").json
    assert form == json.loads(found.to_json())
    table = run("align", model, audio, "--text", TEXT).out
    assert "6 words in 2.00 s" in table
    assert all(word.text in table for word in found.words)


@pytest.mark.parametrize("name", ["a.srt", "a.TextGrid", "a.json", "new/a.txt"])
def test_a_file_gets_the_format_of_its_name(name: str, run: Runner, model: Path, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8-sig")
    output = tmp_path / name
    more = ("--format", "srt") if name.endswith("txt") else ()
    arguments = ("align", model, audio, "--text-file", tmp_path / "text.txt", "--output", output, *more)
    done = run(*arguments)
    found = align(sottovoce.load(model), audio, TEXT)
    assert (done.code, done.out, done.err) == (0, "", f"{said(found)}{output}: 6 words\n")
    expected = {"json": found.to_json(), "TextGrid": found.to_textgrid()}.get(name.rpartition(".")[2], found.to_srt())
    assert output.read_text(encoding="utf-8") == expected
    assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []
    run(*arguments).fails(2, "exists already", "--overwrite")
    assert run(*arguments, "--overwrite", "--quiet").err == ""
    assert run(*arguments, "--overwrite", "--json").json["output"] == str(output)


def test_resampling_is_told_once_and_not_when_quiet(run: Runner, model: Path, audio: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "fast.wav", np.random.default_rng(0).standard_normal((44100, 2)) * 0.1, 44100)
    arguments = ("align", model, tmp_path / "fast.wav", "--text", "开", "--language", "zh", "--json")
    _note_resampling.cache_clear()
    assert run(*arguments).err.count("warning: audio of 44100 Hz is resampled to 16000 Hz\n") == 1
    _note_resampling.cache_clear()
    assert run(*arguments, "--quiet").err == ""


def test_a_text_that_does_not_fit_is_doubted_in_every_format(run: Runner, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(32000), 16000)
    arguments = ("align", model, tmp_path / "silence.wav", "--text", TEXT)
    sentence = "nobody speaks in the audio: it is silent, or equally loud throughout"
    for form in ("srt", "textgrid", "json"):
        assert run(*arguments, "-f", form).err == f"warning: {sentence}\n"
        assert run(*arguments, "-f", form, "--quiet").err == ""
    assert run(*arguments, "--json").json["warnings"] == [sentence]
    output = tmp_path / "a.srt"
    assert run(*arguments, "-o", output).err == f"warning: {sentence}\n{output}: 6 words\n"


def test_what_is_wrong_is_one_line_before_the_model_is_read(run: Runner, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xe9\xff")
    good = ("align", "no/such/model", audio)
    run(*good).fails(2, "either --text or --text-file")
    run(*good, "--text", "a", "--text-file", audio).fails(2, "either --text or --text-file")
    run(*good, "--text-file", tmp_path / "none.txt").fails(1, "none.txt: cannot be read")
    run(*good, "--text-file", tmp_path / "latin.txt").fails(1, "latin.txt: cannot be read as UTF-8")
    run("align", "no/such/model", tmp_path / "none.wav", "--text", "a").fails(1, "none.wav: no such audio file")
    run(*good, "--text", "a", "--output", tmp_path / "a.vtt").fails(
        2, "says no format; give --format json, srt, textgrid"
    )
    run(*good, "--text", "a", "--output", audio, "--format", "srt").fails(2, "a.wav: exists already")
    run(*good, "--text", "a", "--output", tmp_path, "--format", "srt").fails(2, "is a directory")
    run(*good, "--text", "a", "--format", "vtt").fails(2, "Invalid value for '--format'")


def test_what_the_model_says_no_to_is_one_line(run: Runner, model: Path, audio: Path) -> None:
    run("align", model, audio, "--text", "a", "--language", "nl").fails(2, "'nl' cannot be aligned; languages: Chinese")
    run("align", model, audio, "--text", "。").fails(1, "has no words to align")


def test_a_model_that_does_not_align_names_those_that_do(
    run: Runner, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = host.Host(allow=("forced-aligner",))
    both.register(ToyPlugin(), "toys")
    for module in ("plugins.host", "entrypoints.load"):
        monkeypatch.setattr(f"sottovoce.{module}.default_host", lambda: both)
    arguments = ("align", make_toy(tmp_path / "toy"), audio, "--text", "a")
    run(*arguments).fails(2, "a model of toy does not align; families that do: qwen3-forced-aligner")


def test_without_the_plugin_the_command_says_how_to_install_it(
    run: Runner, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "default_host", lambda: host.Host(allow=()))
    done = run("align", "no/such/model", audio, "--text", "a")
    done.fails(2, "'align' comes with sottovoce-forced-aligner, which is not loaded")
    assert "pip install . ./plugins/forced-aligner" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX's")
def test_a_full_disk_leaves_nothing(run: Runner, model: Path, audio: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        done = run("align", model, audio, "--text", 30 * TEXT, "-o", tmp_path / "a.textgrid", "--quiet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    done.fails(1, "a.textgrid: could not be written")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
