"""Which of all cases are run: the faults that were met once, and a draw from every kind."""

from __future__ import annotations

import collections
import fnmatch
import heapq
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence

from attack.case import Case
from attack.kinds import KINDS, chance
from attack.model import HonestModel

SHARE = 8
"""One case in so many is damage at random."""
MANY = 500
"""Cases from which on a fault that was reported is tried on every model, not on one."""


def declared(models: Iterable[HonestModel]) -> Iterator[Case]:
    """Yield every case that stands in a table; they are too many to be kept."""
    for model in models:
        for kind in KINDS:
            yield from kind.cases(model)


def select(models: Sequence[HonestModel], count: int, seed: int) -> list[Case]:
    """Return ``count`` cases: those that were reported once, and as many of each kind as its size lets expect.

    Args:
        models: The honest ones.
        count: How many; more than there are in the tables is made up by damage at random.
        seed: Decides which.
    """
    sizes: collections.Counter[str] = collections.Counter()
    kept: dict[str, list[tuple[int, str, Case]]] = collections.defaultdict(list)
    for case in declared(models):
        group = "reported" if case.reported else case.kind
        sizes[group] += 1
        # The case with the largest number is let go.
        number = zlib.crc32(f"{seed} {case.path}".encode("utf-8", "surrogateescape"))
        heapq.heappush(kept[group], (-number, case.path, case))
        if len(kept[group]) > max(count, 1) and group != "reported":
            heapq.heappop(kept[group])
    ordered = {group: [case for *_, case in sorted(cases, reverse=True)] for group, cases in kept.items()}
    first, again = _once(ordered.pop("reported", []))
    # By the root of a kind's size: settings are many, and much alike.
    rest = [
        (place / sizes[kind] ** 0.5, kind, case) for kind, cases in ordered.items() for place, case in enumerate(cases)
    ]
    drawn = [case for *_, case in sorted(rest, key=lambda item: item[:2])]
    most = count - count // SHARE
    reported = {case.kind for case in first}
    # One of each kind is drawn before another of any.
    others = [case for case in drawn[: len(ordered)] if case.kind not in reported]
    chosen = list(dict.fromkeys([*first, *again, *drawn] if count >= MANY else [*others, *first, *drawn]))[:most]
    return [*chosen, *itertools.islice(chance.cases(models, seed), count - len(chosen))]


def _once(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Each case for one model, and for all others."""
    first: dict[tuple[str, str], Case] = {}
    again = []
    for case in cases:
        if first.setdefault((case.kind, case.name), case) is not case:
            again.append(case)
    return list(first.values()), again


def matching(models: Sequence[HonestModel], pattern: str, seed: int) -> list[Case]:
    """Return the cases whose path fits a pattern, such as ``weights/aligner/*``; of those at random the first."""
    kind, model = (*pattern.split("/"), "", "")[:2]
    tables = [table for table in KINDS if _may_fit(table.KIND, kind)]
    fit = [honest for honest in models if _may_fit(honest.name, model)]
    drawn = itertools.islice(chance.cases(models, seed), 10_000) if _may_fit(chance.KIND, kind) else ()
    cases = itertools.chain((case for honest in fit for table in tables for case in table.cases(honest)), drawn)
    return [case for case in cases if case.path == pattern or fnmatch.fnmatchcase(case.path, pattern)]


def _may_fit(name: str, part: str) -> bool:
    """Whether a part of a pattern can mean this kind or model: what is sure not to need not be made."""
    return name == part or any(sign in part for sign in "*?[")
