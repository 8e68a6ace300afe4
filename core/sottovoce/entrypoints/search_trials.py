"""Trials of a search: mixes are really compressed and measured, until one is as predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sottovoce.calibration.reference import ALL
from sottovoce.errors import UsageError
from sottovoce.recipe.recipe import Recipe
from sottovoce.recipe_search.bounds import exact
from sottovoce.recipe_search.choices import FLOAT
from sottovoce.recipe_search.mix import Mix, Space
from sottovoce.recipe_search.solver import Problem, smallest
from sottovoce.recipe_search.trial import KeptTrial, Outcome

_TRUSTED = 1.25
"""Ratio of the measured divergence to the predicted one up to which a mix with pruned parts is taken as it is."""
_TRIALS = 4
"""Mixes that are tried at most, and one more without pruned parts."""

Solve = Callable[[Problem, int | None], Mix | None]
"""Function that returns the best mix within the budget; within another number of bytes if one is given."""


@dataclass(frozen=True)
class Tried:
    """A mix, and what it really does."""

    mix: Mix
    outcome: Outcome

    @property
    def loss(self) -> float:
        """Measured divergence of all samples."""
        return self.outcome.divergence[ALL]

    @property
    def is_pruned(self) -> bool:
        """Return true if some part does not stay as it is."""
        return any(state.share is not None for state in self.mix.states.values())


@dataclass(frozen=True)
class Trials:
    """Mixes that are tried, and those that follow from what was measured."""

    trial: KeptTrial
    recipe: Callable[[Mix], Recipe]
    solve: Solve

    def run(self, space: Space, problem: Problem, mix: Mix, limit: int) -> tuple[Tried, Problem]:
        """Try a mix; where it is not as predicted, solve and try again.

        Args:
            space: What can be chosen.
            problem: The problem that the mix solves.
            mix: The first mix.
            limit: Bytes that the result may take.

        Returns:
            The best that was tried, and the problem with the costs that the trials suggest.

        Raises:
            UsageError: All that were tried are larger than the limit.
        """
        tried = [self._try(mix)]
        plain = self._without_pruning(space, problem, tried[0], limit)
        raised = expected = _expected(space, problem, [], plain)
        while len(tried) < _TRIALS:
            raised, other = self._next(space, expected, raised, tried[-1], limit)
            if other is None or any(other.names == trial.mix.names for trial in tried):
                break
            tried.append(self._try(other))
        return _best([*tried, *([plain] if plain else [])], limit), _expected(space, problem, tried, plain)

    def _try(self, mix: Mix) -> Tried:
        return Tried(mix, self.trial.run(self.recipe(mix)))

    def _next(
        self, space: Space, expected: Problem, raised: Problem, last: Tried, limit: int
    ) -> tuple[Problem, Mix | None]:
        """Return another mix if the last is larger than the limit, or if parts lose more together than alone."""
        if last.outcome.size_bytes > limit:
            return raised, self.solve(raised, 2 * limit - last.outcome.size_bytes)
        layers, parts = _costs(space, expected, last.mix)
        if not parts or last.loss < _TRUSTED * (layers + parts):
            return raised, None
        # All that was not predicted is blamed on the pruned parts, which change each other's inputs: on those of this
        # mix in full, and in part on the others, which were not tried together.
        ratio = (last.loss - layers) / _costs(space, raised, last.mix)[1]
        chosen = {group: last.mix.numbers[group] for group in space.groups}
        share = math.sqrt(max(ratio, 1.0))
        raised = raised.scaled(space.groups, share).raised(chosen, max(ratio, 1.0) / share)
        return raised, self.solve(raised, None)

    def _without_pruning(self, space: Space, problem: Problem, first: Tried, limit: int) -> Tried | None:
        """Try the best mix without pruned parts, if the first has some: what rounding loses by itself."""
        if not first.is_pruned:
            return first
        rest = problem.without(space.groups)
        mix = self.solve(rest, max(limit, rest.size_bytes(smallest(rest))))
        if mix is None or all(choice is FLOAT for choice in mix.choices.values()):
            return None
        return self._try(mix)


def _costs(space: Space, problem: Problem, mix: Mix) -> tuple[float, float]:
    """Return the sums of the divergences alone: of layers that are rounded, and of parts that are pruned."""
    parts = problem.cost({group: mix.numbers[group] for group in space.groups})
    return problem.cost(mix.numbers) - parts, parts


def _best(tried: Sequence[Tried], limit: int) -> Tried:
    fitting = [trial for trial in tried if trial.outcome.size_bytes <= limit]
    if not fitting:
        least = min(trial.outcome.size_bytes for trial in tried)
        raise UsageError(
            f"the smallest mix that was tried takes {exact(least)}, the budget is {exact(limit)}: give that or more"
        )
    return min(fitting, key=lambda trial: trial.loss)


def _expected(space: Space, problem: Problem, tried: Sequence[Tried], plain: Tried | None) -> Problem:
    """Return the problem with costs as the trials measured them: one ratio for layers, and one for parts."""
    ratio = 1.0
    if plain is not None and (alone := _costs(space, problem, plain.mix)[0]):
        ratio = plain.loss / alone
    pruned = [trial for trial in tried if _costs(space, problem, trial.mix)[1]]
    ratio_of_parts = 1.0 if space.groups else ratio
    if pruned:
        best = min(pruned, key=lambda trial: trial.loss)
        layers, parts = _costs(space, problem, best.mix)
        ratio_of_parts = max((best.loss - ratio * layers) / parts, 1.0)
    units = [name for name in problem.groups if name not in space.groups]
    return problem.scaled(units, ratio).scaled(space.groups, ratio_of_parts)
