"""What threads share is changed by one of them at a time, and put back."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sottovoce.system import process_state


def together(*tasks: Callable[[], object]) -> None:
    """Run every task in a thread of its own, and raise what one raised."""
    with ThreadPoolExecutor(len(tasks)) as threads:
        for future in [threads.submit(task) for task in tasks]:
            future.result(timeout=60)


def test_exclusive_is_reentrant_for_one_thread() -> None:
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(50):
            with process_state.exclusive(), process_state.exclusive():
                inside.append(0)
                most.append(len(inside))
                inside.pop()

    together(*[work] * 4)
    assert set(most) == {1}


def test_released_lets_other_threads_in() -> None:
    entered = threading.Event()

    def slow() -> None:
        with process_state.exclusive(), process_state.exclusive():
            with process_state.released():
                assert entered.wait(30)
            assert not process_state._lock.acquire(blocking=False)

    def other() -> None:
        with process_state.exclusive():
            entered.set()

    together(slow, other)
    assert process_state._lock.acquire(blocking=False)
    process_state._lock.release()


def test_released_without_exclusive_does_nothing() -> None:
    with process_state.released(), process_state.exclusive():
        pass


def test_error_releases_the_state() -> None:
    with pytest.raises(ValueError, match="stop"), process_state.exclusive():
        raise ValueError("stop")

    def enter() -> None:
        with process_state.exclusive():
            pass

    together(enter)


def test_warning_filters_are_restored_by_overlapping_threads() -> None:
    before = list(warnings.filters)

    def work() -> None:
        for _ in range(30):
            with process_state.ignored_warnings():
                warnings.warn("nobody hears this", UserWarning, stacklevel=1)

    together(*[work] * 4)
    assert list(warnings.filters) == before


def test_redirected_output_is_that_of_one_thread(capsys: pytest.CaptureFixture[str]) -> None:
    usual, mine, inner, ready, done = sys.stdout, io.StringIO(), io.StringIO(), threading.Event(), threading.Event()

    def quiet() -> None:
        with process_state.stdout_to(mine):
            print("mine")
            with process_state.stdout_to(inner):
                print("inner")
            ready.set()
            assert done.wait(30)
            sys.stdout.write("mine too\n")

    def loud() -> None:
        assert ready.wait(30)
        print("usual")
        done.set()

    together(quiet, loud)
    assert (mine.getvalue(), inner.getvalue()) == ("mine\nmine too\n", "inner\n")
    assert capsys.readouterr().out == "usual\n"
    assert sys.stdout is usual


def test_standard_output_is_restored_in_any_order() -> None:
    usual = sys.stdout

    def work() -> None:
        for _ in range(100):
            stream = io.StringIO()
            with process_state.stdout_to(stream):
                print("a")
            assert stream.getvalue() == "a\n"

    together(*[work] * 4)
    assert sys.stdout is usual


def test_replacement_of_standard_output_stays() -> None:
    usual, theirs = sys.stdout, io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(theirs))
        with process_state.stdout_to(io.StringIO()):
            sys.stdout = theirs
        assert sys.stdout is theirs
    assert sys.stdout is usual


def test_closed_standard_output_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with process_state.stdout_to(io.StringIO()):
        print("nobody hears this")
    assert sys.stdout is None


FORK = """
import os, threading
from sottovoce.system import process_state
held, end = threading.Event(), threading.Event()
def hold():
    with process_state.exclusive():
        held.set()
        end.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
if (child := os.fork()) == 0:
    with process_state.exclusive():
        os._exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
end.set()
thread.join()
raise SystemExit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_process_does_not_wait_for_its_parents_threads() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=False, timeout=60)
    assert done.returncode == 7
