"""How the command line ends when the system, the terminal or the user cuts it short: in one line, or as ever."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.commands import Runner, toy_runner
from core.toy import ToyPlugin, make_model
from sottovoce import cli
from sottovoce.checkpoint.claim import claim
from sottovoce.cli.failure import explain

SOTTOVOCE = (sys.executable, "-m", "sottovoce")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


def shell(command: str, folder: Path) -> tuple[int, str, str]:
    """What ``sottovoce`` gives that a shell runs; in ``command`` it is ``$S``."""
    environment = os.environ | {"S": " ".join(SOTTOVOCE), "SOTTOVOCE_PLUGINS": ""}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("verb", ["recipes", "recipes --json", "--help", "plugins", "env"])
def test_reader_that_stops_early_is_not_an_error(verb: str, tmp_path: Path) -> None:
    code, out, err = shell(f"$S {verb} | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    # `env` warns on processors that have no instructions for int8.
    assert (code, out, [line for line in err.splitlines() if "VNNI" not in line]) == (0, "", [])


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_stream_is_not_an_error(closed: str, tmp_path: Path) -> None:
    code, out, err = shell(f"$S recipes --json {closed}", tmp_path)
    assert (code, err) == (0, "")
    assert ">" in closed.replace("2>", "") or json.loads(out)


def test_closed_standard_output_is_not_reused_for_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import os\nfrom sottovoce.cli import streams\nstreams.open_closed()\n"
        "file = open('a.txt', 'w')\nos.write(1, b'printed')\nfile.write('written')\n"
    )
    assert shell(f"{sys.executable} a.py >&-", tmp_path)[0] == 0
    assert (tmp_path / "a.txt").read_text() == "written"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("verb", ["recipes", "recipes --json", "--help"])
def test_full_disk_for_standard_output_gives_a_one_line_error(verb: str, tmp_path: Path) -> None:
    code, _, err = shell(f"$S {verb} > /dev/full", tmp_path)
    assert code == 1
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert "could not be written" in err and "No space left on device" in err


def test_removed_working_directory_gives_a_one_line_error(tmp_path: Path) -> None:
    code, out, err = shell("mkdir gone && cd gone && rmdir ../gone && exec $S inspect m", tmp_path)
    assert (code, out, err) == (2, "", "error: the working directory does not exist any more: change to another one\n")


def test_missing_home_and_temporary_directory_are_not_errors(source: Path) -> None:
    variables = "HOME=/nonexistent TMPDIR=/nonexistent XDG_CACHE_HOME=/nonexistent NUMBA_CACHE_DIR=/dev/null/none"
    code, out, err = shell(f"env {variables} $S recipes --json", source.parent)
    assert (code, err) == (0, "")
    assert json.loads(out)


@pytest.mark.parametrize("verb", ["compress", "export"])
def test_output_of_another_run_is_refused_before_the_model_is_read(
    verb: str, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = ("-r", "int8") if verb == "compress" else ("--format", "letters")
    monkeypatch.setattr("sottovoce.checkpoint.claim.threading.get_ident", lambda: 1)
    with claim(tmp_path / "out"):
        monkeypatch.setattr("sottovoce.checkpoint.claim.threading.get_ident", lambda: 2)
        run(verb, tmp_path / "no model", *option, "-o", tmp_path / "out").fails(1, "out: is being written by another")
        monkeypatch.setattr("sottovoce.checkpoint.claim.threading.get_ident", lambda: 1)
    run(verb, tmp_path / "no model", *option, "-o", tmp_path / "out").fails(1, "no model")


def test_output_with_the_model_is_refused_before_the_work(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / ".sottovoce").touch()
    model = make_model(tmp_path / "all" / "toy")
    monkeypatch.setattr("sottovoce.entrypoints.compress.compress", None)
    run("compress", model, "-r", "int8", "-o", tmp_path / "all", "--overwrite").fails(2, "contains the model")
    assert model.is_dir()


@pytest.mark.parametrize("length", [240, 255, 400])
def test_too_long_name_is_refused_before_the_work(length: int, run: Runner, tmp_path: Path) -> None:
    arguments = ("compress", tmp_path / "no model", "-r", "int8", "-o", tmp_path / ("x" * length))
    run(*arguments).fails(1, "cannot be written (File name too long)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_process_quietly(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, run: Runner
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    def ask_again(*_: object) -> int:
        os.kill(os.getpid(), number)
        return 0

    monkeypatch.setattr(cli, "cli", interrupted)
    monkeypatch.setattr(cli, "_fail", ask_again)
    assert run("recipes").code == 130


def raised(cause: Exception, error: Exception) -> Exception:
    """An error that another was the cause of."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "the machine's memory is not enough for this model"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), "ulimit -v"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "ulimit -v"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "ulimit -v"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (raised(MemoryError(), ValueError("no")), "the machine's memory is not enough for this model"),
        (raised(RuntimeError("can't start new thread"), KeyError("sample_thread")), "ulimit -u"),
        (PermissionError(errno.EACCES, "Permission denied", "/m/vocab.txt"), "/m/vocab.txt: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "No usable temporary"),
        (OSError(errno.ENOSPC, "No space left on device"), "could not be written: No space left on device"),
        (ValueError("a plain bug"), "ValueError: a plain bug; this is a bug"),
        (OSError("odd"), "OSError: odd; this is a bug"),
    ],
)
def test_unexpected_error_is_explained(error: Exception, line: str) -> None:
    explained = explain(error)
    assert line in explained
    assert ("this is a bug" in explained) == ("this is a bug" in line)
    assert "\n" not in explained


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("what", ["toy", "toy/config.yaml", "."])
def test_unreadable_model_is_named(what: str, run: Runner, source: Path) -> None:
    path = source.parent / what
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        done = run("inspect", source)
    finally:
        path.chmod(mode)
    done.fails(1, "Permission denied", str(source))


def refusing(error: Exception) -> Callable[..., object]:
    """A function that cannot be had."""

    def refuse(*_: object, **__: object) -> object:
        raise error

    return refuse


@pytest.mark.parametrize("function", ["os.scandir", "pathlib.Path.is_dir"])
def test_unreadable_directory_is_not_searched_on_a_hub(
    function: str, run: Runner, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent.parent)
    name = Path(source.parent.name) / source.name
    assert len(name.parts) == 2  # as owner/name on a hub
    monkeypatch.setattr("sottovoce.entrypoints.load.fetch", refusing(AssertionError("a hub was asked")))
    monkeypatch.setattr(function, refusing(PermissionError(errno.EACCES, "Permission denied", str(name))))
    run("inspect", name).fails(1, f"{name}: cannot be read (Permission denied)")
