"""A function in a process of its own: what goes wrong there is told here."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from sottovoce.entrypoints.measurement import measure
from sottovoce.errors import SottovoceError
from sottovoce.samples import Samples
from sottovoce.system.isolation import run_isolated

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def tests_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the new process find the functions below by what a user would name too, not by where it is started."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)


def nothing(*report: Any) -> None:
    raise AssertionError(report)


def test_sottovoce_error_crosses_the_process_unchanged() -> None:
    with pytest.raises(SottovoceError, match="none: no such directory"):
        run_isolated(measure, "none", Samples(()), None, {}, progress=nothing)


def test_foreign_error_crosses_the_process_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="TypeError: .*progress") as caught:
        run_isolated(json.dumps, 1, progress=nothing)
    assert "Traceback" in caught.value.__notes__[0]


def test_unpicklable_result_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="pickle"):
        run_isolated(dict, progress=nothing)


def killed(number: int, **_: Any) -> None:
    os.kill(os.getpid(), number)


def exhausted(**_: Any) -> None:
    raise MemoryError("Unable to allocate 4.00 TiB")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGKILL])
def test_signal_is_named_and_memory_only_for_sigkill(number: signal.Signals) -> None:
    with pytest.raises(SottovoceError, match=number.name) as caught:
        run_isolated(killed, int(number), progress=nothing)
    assert ("memory" in str(caught.value)) == (number is signal.SIGKILL)


def test_memory_error_is_reported() -> None:
    with pytest.raises(SottovoceError, match="ran out of memory"):
        run_isolated(exhausted, progress=nothing)


def test_process_without_a_result_reports_its_exit_code() -> None:
    with pytest.raises(SottovoceError, match="exit 7") as caught:
        run_isolated(leaving, progress=nothing)
    assert "memory" not in str(caught.value)


def leaving(**_: Any) -> None:
    os._exit(7)
