"""Two models timed by turns."""

from __future__ import annotations

import pytest

from sottovoce.errors import SottovoceError
from sottovoce.turns import busy, isolated, spread, take_turns


def test_the_two_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    clock = iter(range(1, 100))

    def named(name: str):
        return lambda: calls.append(name) or [float(next(clock))]

    before, after = take_turns(named("a"), named("b"), rounds=5)
    assert calls == ["a", "b"] * 6
    assert (before, after) == ([[3], [5], [7], [9], [11]], [[4], [6], [8], [10], [12]])


def test_median_and_quartiles_of_rounds() -> None:
    assert spread([1, 2, 3, 4, 100]) == {"median": 3, "quartiles": [2, 4], "rounds": 5}


@pytest.mark.parametrize(
    ("ratios", "load", "said"),
    [
        ([1.0, 1.01, 0.99, 1, 1], 0.5, None),
        ([1] * 5, None, None),
        ([1] * 5, 9.0, "busy"),
        ([0.3, 1, 7, 2, 4], 0, "vary"),
    ],
)
def test_a_busy_machine_is_told(ratios: list[float], load: float | None, said: str | None) -> None:
    found = busy(ratios, load, 4)
    assert (found is None) if said is None else (found is not None and said in found)


def test_an_error_there_is_an_error_here() -> None:
    with pytest.raises(SottovoceError, match="none: no such directory"):
        from sottovoce.evaluation import timed
        from sottovoce.samples import Samples

        with isolated(timed, "none", Samples(()), {}):
            raise AssertionError
