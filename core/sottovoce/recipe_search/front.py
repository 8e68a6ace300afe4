"""Sizes against divergences: the best recipes of many sizes, and uniform ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from sottovoce.recipe_search.choices import CHOICES, FLOAT, Choice
from sottovoce.recipe_search.result import Point
from sottovoce.recipe_search.solver import Problem, smallest, solve

if TYPE_CHECKING:
    from sottovoce.recipe_search.mix import Space

_BELOW, _ABOVE = 10, 3
"""Points below the largest uniform recipe, and above it."""


def front(alone: Problem, expected: Problem, middle: int, before: int) -> list[Point]:
    """Return the best mixes of sizes between the least and the model's.

    Args:
        alone: The integer program, with the divergence of every choice alone.
        expected: The same with costs as a trial would measure them; these are minimized.
        middle: Size of the largest uniform recipe: most of the points are below, where a byte matters most.
        before: Size of the model.
    """
    least = alone.size_bytes(smallest(alone))
    middle = min(max(middle, least), before)
    limits = [*_between(least, middle, _BELOW), *_between(middle, before, _ABOVE), before]
    points: dict[int, Point] = {}
    for limit in limits:
        if (choice := solve(expected, limit)) is not None:
            size = alone.size_bytes(choice)
            points[size] = Point("mix", size, alone.cost(choice), expected.cost(choice))
    return [points[size] for size in sorted(points)]


def _between(first: int, last: int, count: int) -> list[float]:
    return [first * (last / first) ** (number / count) for number in range(count)]


def uniform(space: Space, alone: Problem, expected: Problem) -> list[Point]:
    """Return the recipes that give all layers one choice, and where one does not fit, the next that changes less.

    Args:
        space: What can be chosen.
        alone: As for :func:`front`.
        expected: As for :func:`front`.
    """
    return [
        Point(choice.name, alone.size_bytes(numbers), alone.cost(numbers), expected.cost(numbers))
        for choice, numbers in _uniform(space, alone)
        if choice is not FLOAT
    ]


def _uniform(space: Space, problem: Problem) -> Iterator[tuple[Choice, dict[str, int]]]:
    for choice in space.choices:
        yield choice, alike(space, problem, choice)


def alike(space: Space, problem: Problem, choice: Choice) -> dict[str, int]:
    """Return the solution that gives all layers a choice, or where it does not fit, the next that changes less."""
    numbers: dict[str, int] = {}
    for unit in space.units:
        options = problem.groups[unit.name]
        names = {option.name: number for number, option in reversed(list(enumerate(options)))}
        numbers[unit.name] = names[nearest(choice, names)]
    return numbers | dict.fromkeys(space.groups, 0)


def nearest(choice: Choice, names: Mapping[str, int]) -> str:
    """Return the choice itself, or the next smaller group that is among the names, or else 8 bits or float."""
    start = CHOICES.index(choice)
    return next(CHOICES[number].name for number in range(start, -1, -1) if CHOICES[number].name in names)
