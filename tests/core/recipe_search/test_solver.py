"""The integer program against all mixes, one after another."""

from __future__ import annotations

import builtins
import itertools
import os
import random
from typing import Any

import pytest
import scipy.optimize

from sottovoce.errors import SottovoceError
from sottovoce.recipe_search.solver import Option, Problem, fastest, smallest, solve


def mixes(problem: Problem) -> list[dict[str, int]]:
    """Every choice that the needs allow."""
    ranges = [range(len(options)) for options in problem.groups.values()]
    every = [dict(zip(problem.groups, numbers, strict=True)) for numbers in itertools.product(*ranges)]
    return [choice for choice in every if is_allowed(problem, choice)]


def is_allowed(problem: Problem, choice: dict[str, int]) -> bool:
    return all(
        problem.groups[other][choice[other]].name == name
        for group, number in choice.items()
        for other, name in problem.groups[group][number].needs.items()
    )


def random_problem(seed: int, with_needs: bool = False) -> Problem:
    draw = random.Random(seed)

    def option(name: str, needs: dict[str, str]) -> Option:
        return Option(name, draw.expovariate(1) ** 4, draw.randint(1, 4000), draw.random(), needs)

    states = ["all", "half"] if with_needs else []
    groups = {
        f"layer {number}": [
            option(f"{bits} {state}", {"part": state} if state else {})
            for bits in ("float", "8", "4")
            for state in (states if states and number % 2 else [""])
        ]
        for number in range(5)
    }
    if states:
        groups["part"] = [option(state, {}) for state in states]
    return Problem(groups, fixed_bytes=500, fixed_seconds=0.1)


@pytest.mark.parametrize("with_needs", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_the_solution_is_that_of_brute_force(seed: int, with_needs: bool) -> None:
    problem = random_problem(seed, with_needs)
    every = mixes(problem)
    sizes = sorted(map(problem.size_bytes, every))
    times = sorted(map(problem.seconds, every))
    middle = len(times) // 2
    limits = [(sizes[len(sizes) // 4], None), (sizes[middle], (times[middle] + times[middle + 1]) / 2)]
    for size, seconds in limits:
        fitting = [
            choice
            for choice in every
            if problem.size_bytes(choice) <= size and (seconds is None or problem.seconds(choice) <= seconds)
        ]
        best = min(map(problem.cost, fitting), default=None)
        choice = solve(problem, size, seconds)
        if best is None:
            assert choice is None
            continue
        assert choice is not None
        assert is_allowed(problem, choice)
        assert problem.size_bytes(choice) <= size
        assert problem.cost(choice) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("with_needs", [False, True])
def test_least_size_and_least_time_are_those_of_brute_force(with_needs: bool) -> None:
    problem = random_problem(3, with_needs)
    every = mixes(problem)
    assert problem.size_bytes(smallest(problem)) == min(map(problem.size_bytes, every))
    assert problem.seconds(fastest(problem)) == pytest.approx(min(map(problem.seconds, every)))


def test_without_a_group_its_first_option_is_taken_and_numbers_stay() -> None:
    problem = random_problem(5, with_needs=True)
    rest = problem.without(["part"])
    choice = smallest(rest)
    assert is_allowed(problem, choice)
    assert choice["part"] == 0
    every = [choice for choice in mixes(problem) if choice["part"] == 0]
    assert problem.size_bytes(choice) == rest.size_bytes(choice) == min(map(problem.size_bytes, every))


def test_raised_costs_are_those_of_the_choice_alone() -> None:
    problem = random_problem(5)
    choice = smallest(problem)
    other = {group: (number + 1) % 3 for group, number in choice.items()}
    raised = problem.raised(choice, 7)
    assert raised.cost(choice) == pytest.approx(7 * problem.cost(choice))
    assert raised.cost(other) == problem.cost(other)


def test_nothing_fits_below_the_least_size() -> None:
    problem = random_problem(1)
    assert solve(problem, problem.size_bytes(smallest(problem)) - 1) is None


def test_what_the_solver_prints_is_not_in_the_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    milp = scipy.optimize.milp
    monkeypatch.setattr(scipy.optimize, "milp", lambda *a, **b: (os.write(1, b"a message"), milp(*a, **b))[1])
    assert solve(random_problem(1)) is not None
    print("printed")
    assert capfd.readouterr().out == "printed\n"


def test_missing_scipy_is_one_line_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without_scipy(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return importing(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(SottovoceError, match=r"pip install 'sottovoce\[search\]'"):
        solve(random_problem(1), 5000)
