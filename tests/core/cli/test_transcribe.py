"""``sottovoce transcribe``: files, directories and formats, and what it refuses in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.commands import Done, Runner
from core.transcription.families import Recognizer, aligner, detector, diarizer, model, punctuator, stopping
from sottovoce import SpeakerTurn
from sottovoce.errors import SourceError
from sottovoce.model import Model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    """A runner for which the models are those of ``families``, by name."""
    models: dict[str, Model] = {
        "asr": Recognizer().model,
        "vad": detector((0.0, 0.5), (0.6, 1.0)),
        "punc": punctuator(),
        "aligner": aligner(),
        "spk": diarizer(SpeakerTurn(0.0, 0.5, 0), SpeakerTurn(0.6, 1.0, 1)),
        "stopping": stopping(1.5),
        "broken": model("broken", recognize=lambda *_: 1 / 0),
    }

    def load(name: Any, **options: Any) -> Model:
        if name not in models:
            raise SourceError(f"{name}: no such directory")
        return models[name]

    monkeypatch.setattr("sottovoce.entrypoints.transcribe.load", load)
    return Runner(monkeypatch, capfd)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return clip(tmp_path / "a.wav")


def clip(path: Path, seconds: float = 1.0) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(16000 * seconds))
    soundfile.write(path, noise, 16000)
    return path


def test_the_text_of_one_file_is_standard_output(run: Runner, audio: Path) -> None:
    assert run("transcribe", "asr", audio) == Done(0, "long 10\n", "")


def test_all_models_work_together(run: Runner, audio: Path) -> None:
    models = ("--vad", "vad", "--punc", "punc", "--aligner", "aligner")
    form = run("transcribe", "asr", audio, *models, "--language", "English", "--json").json
    (transcript,) = form["transcripts"]
    assert transcript["text"] == "long 5. long 4."
    assert transcript["language"] == "en"
    assert [segment["start"] for segment in transcript["segments"]] == [0.0, 0.6]
    assert transcript["segments"][1]["words"][0] == {"text": "long/en", "start": 0.6, "end": 0.7}
    assert form["errors"] == []


def test_speakers_stand_before_what_they_say(run: Runner, audio: Path, tmp_path: Path) -> None:
    done = run("transcribe", "asr", audio, "--vad", "vad", "--spk", "spk", "--speakers", "2", "--quiet")
    assert done == Done(0, "SPEAKER_00: long 5\nSPEAKER_01: long 4\n", "")
    form = run("transcribe", "asr", audio, "--vad", "vad", "--spk", "spk", "--json").json
    assert [part["speaker"] for part in form["transcripts"][0]["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    run("transcribe", "asr", audio, "--vad", "vad", "--spk", "spk", "-o", tmp_path / "a.vtt")
    assert "<v SPEAKER_01>long 4" in (tmp_path / "a.vtt").read_text()


def test_speakers_without_what_they_need_are_refused_in_one_line(run: Runner, audio: Path) -> None:
    run("transcribe", "asr", audio, "--spk", "spk").fails(2, "give a model for voice activity too (--vad")
    run("transcribe", "asr", audio, "--vad", "vad", "--spk", "punc").fails(2, "does not tell speakers apart")
    run("transcribe", "asr", audio, "--speakers", "2").fails(2, "speakers=2", "--spk")
    run("transcribe", "asr", audio, "--speakers", "0").fails(2, "--speakers")
    run("transcribe", "asr", audio, "--vad", "vad", "--spk", "nowhere").fails(1, "nowhere: no such directory")


@pytest.mark.parametrize("form", ["txt", "json", "srt", "vtt", "ass", "textgrid", "tsv"])
def test_the_format_is_the_options_or_that_of_the_name(run: Runner, audio: Path, tmp_path: Path, form: str) -> None:
    printed = run("transcribe", "asr", audio, "-f", form)
    assert printed.code == 0
    done = run("transcribe", "asr", audio, "-o", tmp_path / f"b.{form}")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / f"b.{form}").read_text(encoding="utf-8") == printed.out
    assert "long 10" in printed.out


def test_files_and_directories_are_written_below_the_output(run: Runner, tmp_path: Path) -> None:
    one, folder = clip(tmp_path / "one.wav"), tmp_path / "folder"
    clip(folder / "two.flac", 2)
    clip(folder / "deep" / "three.ogg", 3)
    clip(folder / ".hidden" / "four.wav")
    (folder / "notes.md").write_text("no audio")
    out = tmp_path / "out"
    done = run("transcribe", "asr", one, folder, "-o", out, "-f", "srt")
    assert done.code == 0, done.err
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {"one.srt", "two.srt", "deep/three.srt"}
    assert "long 30" in (out / "deep" / "three.srt").read_text()


def test_nothing_of_a_directory_is_left_out_silently(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    clip(folder / "good.wav")
    (folder / "notes.md").write_text("no audio")
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (folder / "linked.wav").symlink_to(folder / "good.wav")
    done = run("transcribe", "asr", folder)
    assert done.code == 1
    assert done.out == f"{folder}/good.wav: long 10\n{folder}/linked.wav: long 10\n"
    assert done.err.splitlines()[0] == (
        f"error: {folder}/gone.wav: is a link to {tmp_path}/nowhere.wav, which does not exist"
    )
    assert "1 of 3 files" in done.err


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_what_may_not_be_read_is_told_and_the_rest_is_done(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    closed, secret = folder / "closed", clip(folder / "secret.wav")
    clip(folder / "good.wav")
    clip(closed / "inside.wav")
    # Root may read all, so the system's answers are those of another user.
    refused, access, scandir = {str(closed), str(secret)}, os.access, os.scandir

    def listed(path: Any) -> Any:
        if str(path) in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in refused and access(path, mode))
    monkeypatch.setattr(os, "scandir", listed)
    done = run("transcribe", "asr", folder, "-o", tmp_path / "out", "-q")
    assert done.code == 1
    assert (tmp_path / "out" / "good.txt").read_text() == "long 10\n"
    assert done.err.splitlines() == [
        f"error: {closed}: is a directory without permission to read it",
        f"error: {secret}: cannot be read as audio (no permission)",
        "error: 2 of 3 files could not be transcribed; see the lines above",
    ]


def test_a_name_that_begins_with_a_dash_says_how_to_write_it(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip(tmp_path / "-take.wav")
    monkeypatch.chdir(tmp_path)
    run("transcribe", "asr", "-take.wav").fails(2, "No such option", "for the file of this name write ./-take.wav")
    run("transcribe", "asr", "-xother.wav").fails(2, "No such option", "--help")
    assert run("transcribe", "asr", "./-take.wav").out == "long 10\n"


def test_texts_of_several_files_are_printed_with_their_names(run: Runner, tmp_path: Path) -> None:
    one, two = clip(tmp_path / "one.wav"), clip(tmp_path / "two.wav", 2)
    assert run("transcribe", "asr", one, two).out == f"{one}: long 10\n{two}: long 20\n"
    run("transcribe", "asr", one, two, "-f", "srt").fails(2, "2 files", "--output")


def test_a_bad_file_among_many_is_reported_and_the_others_are_done(run: Runner, tmp_path: Path) -> None:
    good, bad = clip(tmp_path / "good.wav"), tmp_path / "bad.wav"
    bad.write_bytes(b"garbage" * 100)
    out = tmp_path / "out"
    done = run("transcribe", "asr", bad, tmp_path / "none.wav", good, "-o", out, "--json")
    assert done.code == 1
    form = json.loads(done.out)
    assert [error["file"] for error in form["errors"]] == [str(bad), str(tmp_path / "none.wav")]
    assert [transcript["file"] for transcript in form["transcripts"]] == [str(good)]
    assert (out / "good.txt").read_text() == "long 10\n"
    lines = done.err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "2 of 3 files" in lines[-1]


def test_a_text_that_ends_at_the_limit_of_tokens_is_told_for_its_file(run: Runner, tmp_path: Path) -> None:
    short, long = clip(tmp_path / "short.wav"), clip(tmp_path / "long.wav", 2)
    done = run("transcribe", "stopping", short, long, "-o", tmp_path / "out", "--json")
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith(f"warning: {long}: the text of 1 segment ends at the model's limit of tokens")
    transcripts = json.loads(done.out)["transcripts"]
    assert [transcript["segments"][0]["cut_off"] for transcript in transcripts] == [False, True]
    assert run("transcribe", "stopping", long, "--quiet") == Done(0, "and so\n", "")


def test_existing_outputs_are_refused_before_a_model_is_loaded(run: Runner, audio: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.txt"
    output.write_text("kept")
    run("transcribe", "nowhere", audio, "-o", output).fails(2, "a.txt: exists already", "--overwrite")
    run("transcribe", "nowhere", audio, "-o", tmp_path).fails(2, "a.txt: exists already", "--overwrite")
    assert output.read_text() == "kept"
    assert run("transcribe", "asr", audio, "-o", output, "--overwrite").code == 0
    assert output.read_text() == "long 10\n"


def test_the_audio_itself_and_other_files_are_never_replaced(run: Runner, audio: Path, tmp_path: Path) -> None:
    content = audio.read_bytes()
    named = tmp_path / "a.txt"
    shutil.copy(audio, named)
    run("transcribe", "asr", audio, "-o", audio, "-f", "txt", "--overwrite").fails(2, "is what is transcribed")
    run("transcribe", "asr", named, "-o", named, "--overwrite").fails(2, "is what is transcribed")
    letter = tmp_path / "letter.md"
    letter.write_text("Dear reader")
    run("transcribe", "asr", audio, "-o", letter, "-f", "txt", "--overwrite").fails(2, "is not a transcript")
    assert audio.read_bytes() == named.read_bytes() == content


def test_many_files_are_not_written_to_the_name_of_one(run: Runner, tmp_path: Path) -> None:
    one, two = clip(tmp_path / "folder" / "one.wav"), clip(tmp_path / "folder" / "two.wav")
    for audio in ((one, two), (tmp_path / "folder",)):
        done = run("transcribe", "nowhere", *audio, "-o", tmp_path / "talk.srt")
        done.fails(2, "talk.srt: many files do not go into one", "--format srt")
    assert not (tmp_path / "talk.srt").exists()
    assert run("transcribe", "asr", one, two, "-o", f"{tmp_path}/talk.srt/", "-f", "srt").code == 0
    assert (tmp_path / "talk.srt" / "two.srt").is_file()


def test_files_of_one_name_in_several_formats_keep_their_endings(run: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("a.wav", "a.flac", "b.wav", "sub/a.wav"):
        clip(folder / name)
    assert run("transcribe", "asr", folder, folder / "b.wav", "-o", tmp_path / "out", "-f", "srt").code == 0
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"a.wav.srt", "a.flac.srt", "b.srt", "sub/a.srt"}


def test_files_of_one_name_in_several_folders_are_refused(run: Runner, tmp_path: Path) -> None:
    one, two = clip(tmp_path / "x" / "a.wav"), clip(tmp_path / "y" / "a.wav")
    run("transcribe", "asr", one, two, "-o", tmp_path / "out").fails(2, "a.wav and", "both would be", "a directory")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\x00garbage" * 50, "cannot be read as audio"), (b"", "a file of 0 bytes"), (None, "no such audio file")],
)
def test_a_file_that_is_no_audio_is_one_line(run: Runner, tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    run("transcribe", "asr", path).fails(1, "x.wav", message)


def test_a_tenth_of_a_second_is_transcribed_and_less_than_a_frame_refused(run: Runner, tmp_path: Path) -> None:
    assert run("transcribe", "asr", clip(tmp_path / "short.wav", 0.1)).out == "long 1\n"
    run("transcribe", "asr", clip(tmp_path / "shorter.wav", 0.01)).fails(1, "shorter.wav", "shorter than one frame")


def test_wrong_use_is_one_line(run: Runner, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run("transcribe", "vad", audio).fails(2, "a model of detector does not recognize speech")
    run("transcribe", "asr", audio, "--vad", "punc").fails(2, "does not detect where somebody speaks")
    run("transcribe", "asr", audio, "-f", "doc").fails(2, "'doc'", "txt")
    run("transcribe", "asr", audio, "-o", tmp_path / "talk.doc").fails(2, "talk.doc: its name says no format")
    run("transcribe", "asr", audio, "--language", "klingonish").fails(2, "klingonish")
    run("transcribe", "asr", tmp_path / "empty").fails(1, "empty: no audio files")
    run("transcribe", "broken", audio).fails(1, "models/broken: the model does not run")
    run("transcribe", "asr").fails(2, "AUDIO")


@pytest.mark.skipif(os.name == "nt", reason="a file in the place of a directory")
def test_an_output_that_cannot_be_written_is_told_before_a_model_is_loaded(
    run: Runner, audio: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    run("transcribe", "nowhere", audio, "-o", tmp_path / "file" / "a.txt").fails(1, "a.txt", "written")


@pytest.mark.parametrize("suffix", ["m4a", "webm"])
def test_formats_of_ffmpeg_are_read_by_pyav(run: Runner, tmp_path: Path, suffix: str) -> None:
    av = pytest.importorskip("av", reason="the extra `audio` reads these formats")
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac" if suffix == "m4a" else "libopus", rate=48000)
        stream.layout = "mono"
        noise = (0.1 * np.random.default_rng(0).standard_normal((1, 48000))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        frame.sample_rate = 48000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    done = run("transcribe", "asr", path, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("long 1")
