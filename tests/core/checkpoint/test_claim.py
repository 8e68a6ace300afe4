"""One run at a time writes an output, and clears away what killed runs left there."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from sottovoce.checkpoint import lock_file, new_directory
from sottovoce.checkpoint.claim import claim
from sottovoce.checkpoint.directory import reserved
from sottovoce.checkpoint.ownership import MARKER
from sottovoce.errors import OutputError, UsageError

HOLD = """
import sys, time
from pathlib import Path
from sottovoce.checkpoint import new_directory
with new_directory(Path(sys.argv[1])) as temporary:
    (temporary / "half.txt").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
    (temporary / "whole.txt").write_text("whole")
"""


@contextmanager
def another_run(out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is writing ``out`` until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(out: Path, **options: Any) -> None:
    with new_directory(out, **options) as temporary:
        (temporary / "new.txt").write_text("new")


def test_output_of_another_process_is_refused_with_its_id(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with another_run(out) as run:
        before = names(tmp_path)
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=rf"out: is being written by process {run.pid}; wait for it, or give"):
                write(out, overwrite=overwrite)
        assert names(tmp_path) == before
        run.communicate(b"", timeout=60)
    assert run.returncode == 0
    assert (names(tmp_path), names(out)) == (["out"], ["half.txt", "whole.txt"])


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        with another_run(out) as run:
            run.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 2
    write(out)
    assert (names(tmp_path), names(out)) == (["out"], ["new.txt"])


def test_claims_of_other_outputs_do_not_conflict(tmp_path: Path) -> None:
    with another_run(tmp_path / "out"):
        before = names(tmp_path)
        write(tmp_path / "out2")
        write(tmp_path / "ou")
        assert names(tmp_path) == sorted([*before, "ou", "out2"])


@pytest.mark.parametrize(
    "name",
    [
        ".out.settings",
        ".out.0123abcd",
        ".out.0123abcd.part",
        ".other.0123abcd.sottovoce",
        ".out.0123abcd.old",
        "out.0123abcd.sottovoce",
        ".out.unfinished",
        ".out.0123abcde.sottovoce",
        ".out.0123abcX.sottovoce",
    ],
)
def test_foreign_hidden_directories_stay(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    write(tmp_path / "out")
    assert names(tmp_path) == sorted([name, "out"])


def test_files_and_links_with_a_leftover_name_stay(tmp_path: Path) -> None:
    (tmp_path / ".out.0123abcd.sottovoce").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / ".out.01234567.sottovoce").symlink_to(tmp_path / "mine")
    write(tmp_path / "out")
    assert len(names(tmp_path)) == 4


def test_output_set_aside_by_a_killed_run_is_restored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out, old = tmp_path / "out", tmp_path / ".out.0123abcd.old.sottovoce"
    old.mkdir()
    (old / MARKER).touch()
    with claim(out):
        assert names(out) == [MARKER]
    assert "a run was killed while replacing it; the old one was restored" in caplog.text
    assert names(tmp_path) == ["out"]
    old.mkdir()
    (old / "older.txt").touch()
    with claim(out):
        assert names(out) == [MARKER]
    assert names(tmp_path) == ["out"]


def test_restored_output_needs_overwrite(tmp_path: Path) -> None:
    old = tmp_path / ".out.0123abcd.old.sottovoce"
    old.mkdir()
    (old / MARKER).touch()
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path / "out")
    assert (names(tmp_path), names(tmp_path / "out")) == (["out"], [MARKER])
    write(tmp_path / "out", overwrite=True)
    assert names(tmp_path / "out") == ["new.txt"]


def test_claim_is_reentrant_for_its_thread_only(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with claim(out), claim(out), ThreadPoolExecutor(1) as thread:
        error = thread.submit(write, out).exception()
    assert isinstance(error, OutputError)
    assert "is being written by another thread of this process" in str(error)
    assert names(tmp_path) == []
    write(out)


def test_concurrent_threads_write_completely_or_are_refused(tmp_path: Path) -> None:
    out, barrier = tmp_path / "out", threading.Barrier(8)

    def run(number: int) -> bool:
        barrier.wait(30)
        try:
            with new_directory(out, overwrite=True) as temporary:
                (temporary / MARKER).write_text(str(number))
        except OutputError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(run, range(8)))
    assert any(written)
    assert written[int((out / MARKER).read_text())]
    assert names(tmp_path) == ["out"]


def test_error_releases_the_claim(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), claim(tmp_path / "deep" / "out"):
        raise ValueError("no")
    assert names(tmp_path) == []
    write(tmp_path / "deep" / "out")


@pytest.mark.parametrize("length", [236, 250, 255, 300])
def test_name_too_long_for_temporaries_is_refused(length: int, tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot be written \(File name too long\)"),
        reserved(tmp_path / ("x" * length)),
    ):
        raise AssertionError
    assert names(tmp_path) == []


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system has no locks."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock_file.fcntl, "flock", refuse)


def holder(**changes: Any) -> str:
    here = {"process": os.getpid(), "started": psutil.Process().create_time(), "machine": platform.node()}
    return json.dumps(here | changes)


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("content", "who"),
    [
        (holder(), f"process {os.getpid()};"),
        (holder(machine="elsewhere"), f"process {os.getpid()} on elsewhere;"),
        (holder(started=1.0), None),
        (holder(process=2**22 + 1), None),
        (holder(process="x"), None),
        ("", None),
        ("[]", None),
        ("\0" * 100, None),
    ],
    ids=["alive", "alive elsewhere", "another of its number", "gone", "no number", "empty", "a list", "zeros"],
)
def test_living_holder_counts_without_system_locks(content: str, who: str | None, tmp_path: Path) -> None:
    (tmp_path / ".out.lock.sottovoce").write_text(content)
    if who is None:
        write(tmp_path / "out")
        assert names(tmp_path) == ["out"]
        return
    with pytest.raises(OutputError, match=f"is being written by {who}"):
        write(tmp_path / "out")
    assert names(tmp_path) == [".out.lock.sottovoce"]


def test_dead_holder_does_not_count_with_system_locks(tmp_path: Path) -> None:
    (tmp_path / ".out.lock.sottovoce").write_text(holder())
    write(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_lock_file_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".out.lock.sottovoce").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "out")
    assert (tmp_path / "mine").read_text() == "mine"
