"""Trials of a search: mixes are really compressed and measured, until one is as predicted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from sottovoce.calibration.reference import ALL
from sottovoce.errors import UsageError
from sottovoce.recipe.recipe import Recipe
from sottovoce.recipe_search.analysis import Keep
from sottovoce.recipe_search.bounds import exact
from sottovoce.recipe_search.mix import Mix, Space
from sottovoce.recipe_search.sensitivity import Sensitivity
from sottovoce.recipe_search.solver import Problem
from sottovoce.recipe_search.trial import Outcome, Trial

_TRUSTED = 1.25
"""Ratio of the measured divergence to the predicted one up to which a mix with pruned parts is taken as it is."""
_TRIALS = 4
"""Mixes that are tried at most."""

Solve = Callable[[Problem, int | None], Mix | None]
"""Function that returns the best mix within the budget; of fewer bytes if a number is given."""


@dataclass(frozen=True)
class Tried:
    """A mix, the problem that it solves, and what it really does."""

    mix: Mix
    problem: Problem
    outcome: Outcome

    @property
    def loss(self) -> float:
        """Measured divergence of all samples."""
        return self.outcome.divergence[ALL]

    @property
    def ratio(self) -> float:
        """Measured divergence as a multiple of the predicted one."""
        return self.loss / self.mix.divergence if self.mix.divergence else 1.0


@dataclass(frozen=True)
class Trials:
    """Trials that are kept, so that an interrupted search does not repeat them."""

    trial: Trial
    identity: str
    """Digest of the samples that the trial measures on."""
    known: Sensitivity
    keep: Keep
    recipe: Callable[[Mix], Recipe]
    solve: Solve

    def run(self, space: Space, problem: Problem, mix: Mix, limit: int) -> Tried:
        """Try a mix; where it is not as predicted, solve and try again.

        Args:
            space: What can be chosen.
            problem: The problem that the mix solves.
            mix: The first mix.
            limit: Bytes that the result may take.

        Raises:
            UsageError: All that were tried are larger than the limit.
        """
        tried = [self._try(mix, problem)]
        while len(tried) < _TRIALS and (other := self._next(space, tried, limit)) is not None:
            tried.append(other)
        fitting = [one for one in tried if one.outcome.size_bytes <= limit]
        if not fitting:
            least = min(one.outcome.size_bytes for one in tried)
            raise UsageError(
                f"the smallest mix that was tried takes {exact(least)}, the budget is {exact(limit)}: give that or more"
            )
        return min(fitting, key=lambda one: one.loss)

    def _try(self, mix: Mix, problem: Problem) -> Tried:
        recipe = self.recipe(mix)
        facts = json.dumps([recipe.to_dict(), self.identity], sort_keys=True)
        key = hashlib.sha256(facts.encode()).hexdigest()[:32]
        if key not in self.known.trials:
            self.known.trials[key] = self.trial.run(recipe).to_dict()
            self.keep(self.known)
        return Tried(mix, problem, Outcome.from_dict(self.known.trials[key]))

    def _next(self, space: Space, tried: list[Tried], limit: int) -> Tried | None:
        """Try another mix if the last is larger than the limit, or if parts lose more together than alone."""
        last = tried[-1]
        if last.outcome.size_bytes > limit:
            problem, size = last.problem, 2 * limit - last.outcome.size_bytes
        else:
            cost = last.problem.cost({group: last.mix.numbers[group] for group in space.groups})
            if not cost or last.ratio < _TRUSTED:
                return None
            # All that was not predicted is blamed on the pruned parts: they change most, and each other's inputs.
            ratio = (last.loss - (last.mix.divergence - cost)) / cost
            problem, size = last.problem.scaled(space.groups, ratio), None
        mix = self.solve(problem, size)
        if mix is None or any(mix.names == one.mix.names for one in tried):
            return None
        return self._try(mix, problem)
