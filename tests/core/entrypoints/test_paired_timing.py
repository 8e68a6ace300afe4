"""Two models timed by turns."""

from __future__ import annotations

import functools
import logging
import operator
import subprocess
import sys
import time

import pytest

from sottovoce.entrypoints import paired_timing
from sottovoce.entrypoints.paired_timing import busy, isolated, spread, take_turns
from sottovoce.errors import SottovoceError
from sottovoce.system.isolation import NOISY_LOGGERS


def test_take_turns_alternates_and_drops_the_first_round() -> None:
    calls: list[str] = []
    clock = iter(range(1, 100))

    def named(name: str):
        return lambda: calls.append(name) or [float(next(clock))]

    before, after = take_turns(named("a"), named("b"), rounds=5)
    assert calls == ["a", "b"] * 6
    assert (before, after) == ([[3], [5], [7], [9], [11]], [[4], [6], [8], [10], [12]])


def test_spread_has_median_and_quartiles() -> None:
    assert spread([1, 2, 3, 4, 100]) == {"median": 3, "quartiles": [2, 4], "rounds": 5}


@pytest.mark.parametrize(
    ("ratios", "others", "said"),
    [
        ([1.0, 1.01, 0.99, 1, 1], 0.5, None),
        ([1] * 5, None, None),
        ([1] * 5, 1.0, "other processes use 1.0 of its 4 cores"),
        ([0.3, 1, 7, 2, 4], 0, "vary"),
    ],
)
def test_busy_machine_is_reported(ratios: list[float], others: float | None, said: str | None) -> None:
    found = busy(ratios, others, 4)
    assert (found is None) if said is None else (found is not None and said in found)


def test_error_in_the_isolated_process_is_raised_here() -> None:
    with pytest.raises(SottovoceError, match="none: no such directory"):
        from sottovoce.entrypoints.evaluate import prepare_timed
        from sottovoce.samples import Samples

        with isolated(prepare_timed, "none", Samples(()), {}):
            raise AssertionError


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_own_computation_is_not_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # A machine on which nobody else computes: what the system counts is this process's own.
    monkeypatch.setattr(paired_timing, "_system_seconds", paired_timing._own_seconds)
    meter = paired_timing.OtherWork()
    spin(0.2)
    assert meter.cores() < 0.05


def test_computation_of_another_process_is_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_timing, "_system_seconds", lambda: paired_timing._own_seconds() + time.perf_counter())
    meter = paired_timing.OtherWork()
    spin(0.1)
    assert meter.cores() == pytest.approx(1, abs=0.2)


def test_isolated_process_runs_repeatedly() -> None:
    # What prepares must be importable there: `partial(list, (2.0, 3.0))` is what then gives the seconds.
    with isolated(functools.partial, list, (2.0, 3.0)) as seconds:
        assert [seconds(), seconds()] == [[2.0, 3.0], [2.0, 3.0]]


@pytest.mark.parametrize("name", NOISY_LOGGERS)
def test_isolated_process_has_the_levels_of_noisy_loggers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger(name)
    monkeypatch.setattr(logger, "level", logging.CRITICAL - 1)
    with isolated(functools.partial, map, operator.attrgetter("level"), (logger,)) as levels:
        assert levels() == [logging.CRITICAL - 1]


def test_work_of_a_child_that_has_ended_is_not_that_of_others() -> None:
    before = paired_timing._own_seconds()
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    # The kernel counts in ticks of a hundredth.
    assert paired_timing._own_seconds() - before >= 0.45
