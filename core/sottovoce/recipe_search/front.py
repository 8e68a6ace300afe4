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


def front(problem: Problem, middle: int, before: int, ratio: float) -> list[Point]:
    """Return the best mixes of sizes between the least and the model's.

    Args:
        problem: The integer program.
        middle: Size of the largest uniform recipe: most of the points are below, where a byte matters most.
        before: Size of the model.
        ratio: Measured divergence of a mix as a multiple of its sum; it hardly depends on the size.
    """
    least = problem.size_bytes(smallest(problem))
    middle = min(max(middle, least), before)
    limits = [*_between(least, middle, _BELOW), *_between(middle, before, _ABOVE), before]
    points: dict[int, Point] = {}
    for limit in limits:
        if (choice := solve(problem, limit)) is not None:
            size = problem.size_bytes(choice)
            cost = problem.cost(choice)
            points[size] = Point(name="mix", size_bytes=size, divergence=cost, expected=ratio * cost)
    return [points[size] for size in sorted(points)]


def _between(first: int, last: int, count: int) -> list[float]:
    return [first * (last / first) ** (number / count) for number in range(count)]


def uniform(space: Space, problem: Problem, ratio: float) -> list[Point]:
    """Return the recipes that give all layers one choice, and where one does not fit, the next that changes less.

    Args:
        space: What can be chosen.
        problem: The integer program.
        ratio: As for :func:`front`.
    """
    return [
        Point(name=choice.name, size_bytes=size, divergence=cost, expected=ratio * cost)
        for choice, size, cost in _uniform(space, problem)
        if choice is not FLOAT
    ]


def _uniform(space: Space, problem: Problem) -> Iterator[tuple[Choice, int, float]]:
    for choice in CHOICES:
        numbers: dict[str, int] = {}
        for unit in space.units:
            options = problem.groups[unit.name]
            names = {option.name: number for number, option in reversed(list(enumerate(options)))}
            numbers[unit.name] = names[nearest(choice, names)]
        for group in space.groups:
            numbers[group] = 0
        yield choice, problem.size_bytes(numbers), problem.cost(numbers)


def nearest(choice: Choice, names: Mapping[str, int]) -> str:
    """Return the choice itself, or the next smaller group that is among the names, or else 8 bits or float."""
    start = CHOICES.index(choice)
    return next(CHOICES[number].name for number in range(start, -1, -1) if CHOICES[number].name in names)
