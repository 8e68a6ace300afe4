"""Which of all cases are run: the faults that were met once, and a draw from every kind."""

from __future__ import annotations

import fnmatch
import itertools
import random
from collections.abc import Iterable, Sequence

from attack.case import Case
from attack.kinds import KINDS, chance
from attack.model import HonestModel

SHARE = 8
"""One case in so many is damage at random."""


def declared(models: Iterable[HonestModel]) -> list[Case]:
    """Return every case that stands in a table."""
    cases = [case for model in models for kind in KINDS for case in kind.cases(model)]
    if twice := sorted(path for path, same in itertools.groupby(sorted(case.path for case in cases)) if len(list(same)) > 1):
        raise ValueError(f"cases of one name: {', '.join(twice[:5])}")
    return cases


def select(models: Sequence[HonestModel], count: int, seed: int) -> list[Case]:
    """Return ``count`` cases: those that were reported once, and as many of each kind as its size lets expect.

    Args:
        models: The honest ones.
        count: How many; more than there are in the tables is made up by damage at random.
        seed: Decides which.
    """
    cases = declared(models)
    reported = [case for case in cases if case.reported]
    drawn = random.Random(f"{seed} selection")
    rest = [case for case in cases if not case.reported]
    drawn.shuffle(rest)
    # By the root of a kind's size: settings are many, and much alike.
    sizes: dict[str, int] = {}
    for case in rest:
        sizes[case.kind] = sizes.get(case.kind, 0) + 1
    places: dict[str, int] = dict.fromkeys(sizes, 0)
    order = []
    for case in rest:
        places[case.kind] += 1
        order.append((places[case.kind] / sizes[case.kind] ** 0.5, case.path, case))
    by_chance = count // SHARE
    chosen = [*reported, *(case for _, _, case in sorted(order, key=lambda item: item[:2]))][: count - by_chance]
    return [*chosen, *itertools.islice(chance.cases(models, seed), count - len(chosen))]


def matching(models: Sequence[HonestModel], pattern: str, seed: int) -> list[Case]:
    """Return the cases whose path fits a pattern, such as ``weights/aligner/*``; of those at random the first 10,000."""
    cases = declared(models) + list(itertools.islice(chance.cases(models, seed), 10_000))
    return [case for case in cases if case.path == pattern or fnmatch.fnmatchcase(case.path, pattern)]
