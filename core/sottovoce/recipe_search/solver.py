"""The best choices within a budget, as an integer program."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

from sottovoce.errors import SottovoceError

_MISSING = "a search solves an integer program with SciPy, which is not installed: pip install 'sottovoce[search]'"
_SECONDS = 60.0
_SCALE = 1e6
"""Largest cost as the solver sees it."""


@dataclass(frozen=True)
class Option:
    """One of the options of a group."""

    name: str
    cost: float
    """Loss by this option; the sum is minimized."""
    size_bytes: int
    seconds: float = 0.0
    needs: Mapping[str, str] = field(default_factory=dict)
    """By name of another group, the option of that group without which this one cannot be."""
    is_allowed: bool = True
    """If false, it is not taken."""


@dataclass(frozen=True)
class Problem:
    """Groups, of which each takes exactly one of its options.

    Where an option needs another group's, every option of that group must be needed by one of this group's at least.
    """

    groups: Mapping[str, Sequence[Option]]
    fixed_bytes: int = 0
    fixed_seconds: float = 0.0

    def cost(self, choice: Mapping[str, int]) -> float:
        """Return the sum of the costs of a choice: by group, the number of its option."""
        return sum(self.groups[group][number].cost for group, number in choice.items())

    def scaled(self, groups: Collection[str], ratio: float) -> Problem:
        """Return the problem with other costs in some groups."""
        options = {
            name: [replace(option, cost=option.cost * ratio) for option in options] if name in groups else options
            for name, options in self.groups.items()
        }
        return replace(self, groups=options)

    def raised(self, choice: Mapping[str, int], ratio: float) -> Problem:
        """Return the problem with another cost of the options of a choice, which may be of some groups only."""
        options = {
            name: [
                replace(option, cost=option.cost * ratio) if choice.get(name) == number else option
                for number, option in enumerate(options)
            ]
            for name, options in self.groups.items()
        }
        return replace(self, groups=options)

    def without(self, groups: Collection[str]) -> Problem:
        """Return the problem in which some groups may only take their first option."""
        options = {
            name: [
                replace(option, is_allowed=name not in groups or not number) for number, option in enumerate(options)
            ]
            for name, options in self.groups.items()
        }
        return replace(self, groups=options)

    def size_bytes(self, choice: Mapping[str, int]) -> int:
        """Return the size of a choice."""
        return self.fixed_bytes + sum(self.groups[group][number].size_bytes for group, number in choice.items())

    def seconds(self, choice: Mapping[str, int]) -> float:
        """Return the time of a choice."""
        return self.fixed_seconds + sum(self.groups[group][number].seconds for group, number in choice.items())


def require_solver() -> None:
    """Refuse to begin without SciPy.

    Raises:
        SottovoceError: It is not installed.
    """
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise SottovoceError(_MISSING) from None


def solve(problem: Problem, size_bytes: float | None = None, seconds: float | None = None) -> dict[str, int] | None:
    """Return the choice of the least cost within the limits: by group, the number of its option.

    Returns:
        ``None`` if nothing fits.

    Raises:
        SottovoceError: SciPy is not installed.
    """
    costs = [option.cost for option in _options(problem)]
    limit = size_bytes
    while (choice := _minimize(problem, costs, limit, seconds)) is not None:
        if limit is None or size_bytes is None or (excess := problem.size_bytes(choice) - size_bytes) <= 0:
            return choice
        limit -= excess  # of the solver's tolerance, a millionth of the limit
    return None


def smallest(problem: Problem) -> dict[str, int]:
    """Return the choice of the least size."""
    choice = _minimize(problem, [float(option.size_bytes) for option in _options(problem)], None, None)
    assert choice is not None
    return choice


def fastest(problem: Problem) -> dict[str, int]:
    """Return the choice of the least time."""
    choice = _minimize(problem, [option.seconds for option in _options(problem)], None, None)
    assert choice is not None
    return choice


def _options(problem: Problem) -> list[Option]:
    return [option for options in problem.groups.values() for option in options]


def _minimize(
    problem: Problem, costs: Sequence[float], size_bytes: float | None, seconds: float | None
) -> dict[str, int] | None:
    require_solver()
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp

    options = _options(problem)
    constraints: list[Any] = [LinearConstraint(*_structure(problem))]
    for values, fixed, limit in (
        ([float(option.size_bytes) for option in options], problem.fixed_bytes, _half_above(size_bytes)),
        ([option.seconds for option in options], problem.fixed_seconds, seconds),
    ):
        if limit is not None:
            # As shares of the limit: the solver's tolerances are absolute.
            scale = abs(limit) or 1.0
            constraints.append(LinearConstraint(np.array([values]) / scale, -np.inf, (limit - fixed) / scale))
    # HiGHS stops a millionth before the best; the best is often a thousandth of the largest cost, or less.
    weights = np.array(costs) * (_SCALE / (max(map(abs, costs), default=0.0) or 1.0))
    with _output_dropped():
        result = milp(
            weights,
            constraints=constraints,
            integrality=np.ones(len(options)),
            bounds=Bounds(0, [float(option.is_allowed) for option in options]),
            options={"mip_rel_gap": 1e-6, "time_limit": _SECONDS},
        )
    return None if result.x is None else _chosen(problem, result.x)


@contextmanager
def _output_dropped() -> Iterator[None]:
    """Drop what is written to the standard output past Python: HiGHS has a message that no option holds back."""
    try:
        kept = os.dup(1)
    except OSError:  # There is none.
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stdout.flush()
        os.dup2(null, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


def _half_above(size_bytes: float | None) -> float | None:
    """Return a limit between two whole numbers of bytes, which no rounding crosses."""
    return None if size_bytes is None else math.floor(size_bytes) + 0.5


def _chosen(problem: Problem, values: Sequence[float]) -> dict[str, int]:
    choice: dict[str, int] = {}
    first = 0
    for group, options in problem.groups.items():
        part = list(values[first : first + len(options)])
        choice[group] = part.index(max(part))
        first += len(options)
    return choice


def _structure(problem: Problem) -> tuple[Any, Any, Any]:
    """Return rows, lower and upper bounds: one option of each group, and those of other groups that these need."""
    from scipy.sparse import csr_array

    places = accumulate(map(len, problem.groups.values()), initial=0)
    starts = dict(zip(problem.groups, places, strict=False))
    entries: list[tuple[int, int, float]] = []
    bounds: list[float] = []
    for group, options in problem.groups.items():
        entries.extend((len(bounds), starts[group] + number, 1.0) for number in range(len(options)))
        bounds.append(1.0)
        for other in dict.fromkeys(name for option in options for name in option.needs):
            for place, needed in enumerate(problem.groups[other]):
                entries.append((len(bounds), starts[other] + place, -1.0))
                entries.extend(
                    (len(bounds), starts[group] + number, 1.0)
                    for number, option in enumerate(options)
                    if option.needs.get(other) == needed.name
                )
                bounds.append(0.0)
    rows, columns, values = zip(*entries, strict=True)
    shape = (len(bounds), sum(map(len, problem.groups.values())))
    return csr_array((values, (rows, columns)), shape=shape), bounds, bounds
