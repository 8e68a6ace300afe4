"""Output directories are complete or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from pathlib import Path

import pytest

from sottovoce.checkpoint import new_directory
from sottovoce.checkpoint.directory import refuse_existing, reserved
from sottovoce.checkpoint.ownership import MARKER
from sottovoce.errors import OutputError, UsageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "old.txt").write_text("old")
    (directory / MARKER).touch()
    return directory


def test_new_directory_is_complete_without_leftovers(tmp_path: Path) -> None:
    with new_directory(tmp_path / "deep" / "er" / "out") as temporary:
        assert temporary.parent == tmp_path / "deep" / "er"
        assert not list(temporary.iterdir())
        (temporary / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "er" / "out").exists()
    assert names(tmp_path / "deep" / "er") == ["out"]
    assert names(tmp_path / "deep" / "er" / "out") == ["a.txt"]


def test_new_directory_has_default_permissions(tmp_path: Path) -> None:
    with new_directory(tmp_path / "out"):
        pass
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), SystemExit(143), GeneratorExit()])
def test_any_failure_leaves_no_directory(failure: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(failure)), new_directory(tmp_path / "deep" / "out") as temporary:
        (temporary / "half.txt").write_text("half")
        raise failure
    assert names(tmp_path) == []


def test_full_disk_is_an_output_error(tmp_path: Path) -> None:
    problem = r"out: could not be written, nothing was left behind \(No space left"
    with pytest.raises(OutputError, match=problem), new_directory(tmp_path / "out") as temporary:
        (temporary / "half.txt").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_existing_directory_is_refused(old: Path) -> None:
    with pytest.raises(UsageError, match=r"exists already; .* --overwrite"), new_directory(old):
        raise AssertionError
    assert names(old.parent) == ["out"]


def test_overwrite_replaces_the_whole_directory(old: Path) -> None:
    with new_directory(old, overwrite=True) as temporary:
        (temporary / "new.txt").write_text("new")
        assert names(old) == [MARKER, "old.txt"]
    assert names(old) == ["new.txt"]
    assert names(old.parent) == ["out"]


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_failed_overwrite_keeps_the_old_directory(failure: BaseException, old: Path) -> None:
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected), new_directory(old, overwrite=True):
        raise failure
    assert names(old.parent) == ["out"]
    assert (old / "old.txt").read_text() == "old"


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_failed_exchange_restores_the_old_directory(
    failure: BaseException, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target == old and (path / "new.txt").exists():
            raise failure
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)), new_directory(old, overwrite=True) as temporary:
        (temporary / "new.txt").write_text("new")
    assert names(old.parent) == ["out"]
    assert names(old) == [MARKER, "old.txt"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link to a file", "link to a directory", "link to nothing"])
def test_file_in_place_of_a_directory_is_never_replaced(kind: str, overwrite: bool, tmp_path: Path) -> None:
    path, target = tmp_path / "out", tmp_path / "target"
    if kind == "file":
        path.write_text("mine")
    elif kind == "link to a file":
        target.write_text("mine")
    elif kind == "link to a directory":
        target.mkdir()
    if kind != "file":
        path.symlink_to(target)
    before = names(tmp_path)
    with pytest.raises(UsageError, match="exists and is not a directory"), new_directory(path, overwrite):
        raise AssertionError
    assert names(tmp_path) == before


@pytest.mark.parametrize("output", [".", "..", "", "../work"])
def test_working_directory_is_not_replaced(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(UsageError, match="is the working directory or holds it"):
        refuse_existing(output, overwrite=True)


def test_parent_that_is_a_file_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot be written"), new_directory(tmp_path / "file" / "out"):
        raise AssertionError
    assert names(tmp_path) == ["file"]


def test_name_that_the_file_system_refuses_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), new_directory(tmp_path / ("x" * 300)):
        raise AssertionError
    with pytest.raises(OutputError, match="cannot be written"), new_directory(tmp_path / "new" / ("x" * 255)):
        raise AssertionError
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_parent_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"), new_directory(tmp_path / "out"):
            raise AssertionError
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("runs", [2, 3])
def test_second_run_to_one_place_keeps_its_result_next_to_it(runs: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    writers = [new_directory(out) for _ in range(runs)]
    for number, writer in enumerate(writers):
        (writer.__enter__() / "a.txt").write_text(str(number))
    writers[0].__exit__(None, None, None)
    for number, writer in enumerate(writers[1:], 2):
        with pytest.raises(OutputError, match=rf"out: was written by another run meanwhile, .* is in .*out-{number}$"):
            writer.__exit__(None, None, None)
    assert names(tmp_path) == ["out", *(f"out-{number}" for number in range(2, runs + 1))]
    assert [(tmp_path / name / "a.txt").read_text() for name in names(tmp_path)] == [str(n) for n in range(runs)]


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_directory_that_appears_meanwhile_is_not_replaced(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="another run"), new_directory(out) as temporary:
        (temporary / "a.txt").write_text("a")
        if kind == "file":
            out.write_text("mine")
        elif kind == "link":
            out.symlink_to(tmp_path / "nothing")
        else:
            out.mkdir()
    assert (out.is_symlink(), out.is_file(), out.is_dir()) == (kind == "link", kind == "file", kind == "directory")
    assert names(tmp_path / "out-2") == ["a.txt"]


def test_directory_that_becomes_foreign_meanwhile_is_not_replaced(old: Path) -> None:
    problem = "is not replaced; this run's result is in"
    with pytest.raises(OutputError, match=problem), new_directory(old, overwrite=True) as temporary:
        (temporary / "new.txt").write_text("new")
        (old / MARKER).unlink()
    assert names(old) == ["old.txt"]
    assert names(old.with_name("out-2")) == ["new.txt"]


def test_unreadable_input_file_is_blamed(tmp_path: Path) -> None:
    problem = r"^/models/LICENSE: Permission denied; .*out was not written, and nothing was left behind$"
    with pytest.raises(OutputError, match=problem), new_directory(tmp_path / "out"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/models/LICENSE")
    assert names(tmp_path) == []


def test_unwritable_output_file_is_blamed(tmp_path: Path) -> None:
    problem = r"out: could not be written, .* \(Permission denied\)$"
    with pytest.raises(OutputError, match=problem), new_directory(tmp_path / "out") as temporary:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(temporary / "config.json"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interruption_waits_for_the_last_rename(
    overwrite: bool, call: int, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = old if overwrite else old.with_name("new"), Path.rename
    calls: list[Path] = []

    def interrupted(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with contextlib.ExitStack() as stack:
        if overwrite or call == 1:
            stack.enter_context(pytest.raises(KeyboardInterrupt))
        with new_directory(out, overwrite) as temporary:
            (temporary / "new.txt").write_text("new")
    assert names(out) == ["new.txt"]
    assert names(old.parent) == sorted({"out", out.name})


def test_second_interruption_does_not_stop_the_cleanup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = shutil.rmtree

    def interrupted(path: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "deep" / "out") as temporary:
        (temporary / "half.txt").write_text("half")
        os.kill(os.getpid(), signal.SIGINT)
    assert names(tmp_path) == []


def test_old_directory_that_cannot_be_removed_is_reported(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with new_directory(old, overwrite=True) as temporary:
            (temporary / MARKER).touch()
    (left,) = (name for name in names(old.parent) if name.endswith(".old.sottovoce"))
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith(f"{old}: was replaced, but the old directory could not be removed from ")
    assert message.endswith(f"{left} (Operation not permitted)")
    assert names(old.parent / left) == [MARKER, "old.txt"]
    with new_directory(old, overwrite=True):
        assert left not in names(old.parent)


def test_directory_that_appears_during_the_work_keeps_the_result(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="was written by another run meanwhile"), reserved(out):
        out.mkdir()
        (out / "mine.txt").touch()
        with new_directory(out) as temporary:
            (temporary / "new.txt").touch()
    assert (names(out), names(tmp_path / "out-2")) == (["mine.txt"], ["new.txt"])


def test_absolute_path_is_written_without_a_working_directory(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with new_directory(old, overwrite=True) as temporary:
        (temporary / "new.txt").touch()
    assert names(old) == ["new.txt"]


def test_name_that_is_not_utf8_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the name is not valid UTF-8"), reserved(tmp_path / os.fsdecode(b"out\xff")):
        raise AssertionError
    assert names(tmp_path) == []
