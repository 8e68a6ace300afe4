"""Progress: functions that are called, and lines where there is no terminal."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import sottovoce
from sottovoce.system import progress
from sottovoce.system.progress import Lines, shown, silent

MODEL = Path(__file__).parents[3] / "examples/models/tiny-paraformer"


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def written(reports: list[tuple[float, str, int, int]], interval: float = 30.0) -> list[str]:
    clock, lines = Clock(), list[str]()
    write = Lines(lines.append, interval, clock)
    for clock.seconds, task, done, total in reports:
        write(task, done, total)
    return lines


def test_short_work_writes_no_line() -> None:
    assert written([(1, "a", 1, 3), (10, "a", 2, 3), (29, "a", 3, 3)]) == []


def test_long_work_writes_a_line_every_interval_with_the_time_left() -> None:
    reports = [(10.0 * number, "compress", number, 100) for number in range(1, 10)]
    assert written(reports) == [
        "compress: 3 of 100, 16:10 left",
        "compress: 6 of 100, 15:40 left",
        "compress: 9 of 100, 15:10 left",
    ]


def test_hours_are_told_apart_from_minutes() -> None:
    assert written([(0, "a", 0, 1000), (40, "a", 1, 1000)]) == ["a: 1 of 1000, 11:06:00 left"]


def test_nothing_done_yet_promises_no_time() -> None:
    assert written([(0, "a", 0, 5), (40, "a", 0, 5)]) == ["a: 0 of 5"]


def test_speed_of_one_task_says_nothing_of_the_next() -> None:
    assert written([(0, "a", 0, 9), (40, "b", 5, 9), (80, "b", 7, 9)])[-1] == "b: 7 of 9, 0:40 left"


def test_a_notebook_shows_one_line_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            states.append(data["text/plain"])

    module = ModuleType("IPython.display")
    module.display = lambda data, raw, display_id: Handle()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with warnings.catch_warnings(), shown(True) as report:
        warnings.simplefilter("error")
        for done in range(1, 4):
            report("compress", done, 3)
    assert states == ["compress: 3 of 3"]


def test_false_is_silent_and_a_function_is_itself() -> None:
    with shown(False) as report:
        assert report is silent
    with shown(silent) as report:
        assert report is silent


def test_true_shows_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.Lines.__init__, "__defaults__", (0.0, progress.time.monotonic))
    sottovoce.compress(sottovoce.load(MODEL), "int8", progress=True)
    captured = capsys.readouterr()
    assert "done: 1 of 1" in captured.err
    assert captured.out == ""
