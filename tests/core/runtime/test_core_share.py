"""Fewer threads run while other processes have the cores, and all of them again afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from sottovoce.errors import UsageError
from sottovoce.runtime.core_share import CoreShare
from sottovoce.system import machine as machine_module
from sottovoce.system.machine import openmp_threads, set_openmp_threads

SLICE = 0.06


@dataclass
class Machine:
    """Clocks that a test turns."""

    now: float = 100.0
    used: float = 0.0

    def share(self) -> CoreShare:
        return CoreShare(wall=lambda: self.now, cpu=lambda: self.used)

    def run(self, seconds: float, cores: float) -> None:
        self.now += seconds
        self.used += seconds * cores


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = openmp_threads()
    set_openmp_threads(4)
    if openmp_threads() != 4:
        pytest.skip("PyTorch has no OpenMP library of GNU's here")
    yield
    set_openmp_threads(before)


def counts(machine: Machine, share: CoreShare, cores: list[float]) -> list[int]:
    """Return the number of threads after each slice in which other processes leave so many cores."""
    seen = []
    with share.work() as look:
        for number in cores:
            machine.run(SLICE, min(number, openmp_threads()))
            look()
            seen.append(openmp_threads())
    return seen


def test_quiet_machine_keeps_all_threads() -> None:
    machine = Machine()
    assert counts(machine, machine.share(), [4.0] * 5) == [4] * 5
    assert torch.get_num_threads() == 4


def test_threads_without_cores_are_left_out_until_one_is_left() -> None:
    machine = Machine()
    assert counts(machine, machine.share(), [2.0, 1.0, 0.6, 0.6]) == [2, 1, 1, 1]
    assert openmp_threads() == 4


def test_as_many_run_as_cores_are_free() -> None:
    machine = Machine()
    assert counts(machine, machine.share(), [2.0, 2.0, 2.0]) == [2, 2, 2]


def test_next_work_begins_with_what_the_last_one_learned() -> None:
    machine = Machine()
    share = machine.share()
    assert counts(machine, share, [2.0]) == [2]
    with share.work():
        assert openmp_threads() == 2
    assert openmp_threads() == 4


def test_a_disturbance_shorter_than_a_slice_changes_nothing() -> None:
    machine = Machine()
    with machine.share().work() as look:
        for cores in (1.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0):
            machine.run(0.01, cores)
            look()
            assert openmp_threads() == 4


def test_more_are_tried_after_a_while_and_later_each_time_that_they_are_too_many() -> None:
    machine = Machine()
    share = machine.share()
    waits = []
    for _ in range(9):
        assert counts(machine, share, [2.0]) == [2]
        begin = machine.now
        while counts(machine, share, [2.0]) == [2]:
            pass
        waits.append(machine.now - begin)
    assert waits[0] == pytest.approx(0.5, abs=2 * SLICE)
    assert waits[1] == pytest.approx(1.0, abs=2 * SLICE)
    assert waits[-1] == pytest.approx(30.0, abs=2 * SLICE)


def test_all_threads_are_back_when_the_machine_is_quiet_for_good() -> None:
    machine = Machine()
    share = machine.share()
    counts(machine, share, [1.0, 0.5])
    assert counts(machine, share, [4.0] * 20)[-1] == 4
    machine.run(100.0, 0.0)
    assert counts(machine, share, [2.0]) == [2]
    assert counts(machine, share, [4.0] * 10)[-1] == 4  # and no longer wait than the first time


def in_another_thread() -> int:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


def test_other_threads_and_failures_keep_their_number() -> None:
    machine = Machine()
    share, elsewhere = machine.share(), in_another_thread()
    assert counts(machine, share, [1.0, 0.5]) == [2, 1]
    with pytest.raises(ValueError, match="failed"), share.work():
        assert openmp_threads() == 1
        assert in_another_thread() == elsewhere
        raise ValueError("failed")
    assert openmp_threads() == 4


def test_one_thread_is_left_alone() -> None:
    machine = Machine()
    set_openmp_threads(1)
    assert counts(machine, machine.share(), [0.2, 0.2]) == [1, 1]


def test_number_stays_where_the_user_fixed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setenv("SOTTOVOCE_THREADS", "fixed")
    assert counts(machine, machine.share(), [1.0, 1.0]) == [4, 4]
    monkeypatch.setenv("SOTTOVOCE_THREADS", "adaptive")
    assert counts(machine, machine.share(), [1.0, 1.0]) == [2, 1]
    monkeypatch.setenv("SOTTOVOCE_THREADS", "many")
    with pytest.raises(UsageError, match=r"SOTTOVOCE_THREADS=many: no such choice \(known: adaptive, fixed\)"):
        counts(machine, machine.share(), [1.0])


class OtherLibrary:
    """OpenMP library of another package, with a number of threads of its own."""

    _name = "/elsewhere/libgomp.so.1"

    def __init__(self) -> None:
        self.count = 7

    def omp_get_max_threads(self) -> int:
        return self.count

    def omp_set_num_threads(self, count: int) -> None:
        self.count = count


def test_libraries_of_other_packages_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    other, known = OtherLibrary(), machine_module._openmp()
    monkeypatch.setattr(machine_module, "_openmp", lambda: (*known, other))
    clocks = Machine()
    assert openmp_threads() == torch.get_num_threads() == 4
    assert counts(clocks, clocks.share(), [2.0, 1.0]) == [2, 1]
    assert torch.get_num_threads() == 4
    assert other.count == 7
