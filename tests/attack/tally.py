"""What came of many cases: counts, faults, and the form that is kept."""

from __future__ import annotations

import collections
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attack.message import printable
from attack.trial import FINE, Outcome


def counts(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Return how many cases of each kind came to what."""
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for outcome in outcomes:
        table[outcome.kind][outcome.outcome] += 1
    return {kind: dict(row) for kind, row in sorted(table.items())}


def rows(table: Mapping[str, Mapping[str, int]]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table, what is fine first and the sum last."""
    met = {word for row in table.values() for word in row}
    columns = [*FINE, *sorted(met - set(FINE))]
    lines = [
        [kind, *(str(row.get(word, "")) for word in columns), str(sum(row.values()))] for kind, row in table.items()
    ]
    sums = [sum(row.get(word, 0) for row in table.values()) for word in columns]
    lines.append(["all", *map(str, sums), str(sum(sums))])
    return ["kind", *columns, "cases"], lines


def show(outcomes: Sequence[Outcome]) -> str:
    """Return the table for a terminal."""
    header, lines = rows(counts(outcomes))
    widths = [max(len(line[number]) for line in (header, *lines)) for number in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in (header, *lines)
    )


def fault_line(outcome: Outcome, seed: int) -> str:
    """Return a line for a fault, with the command that repeats it."""
    what = f"{outcome.outcome}: {outcome.path} ({outcome.operation}): {printable(outcome.detail)}"
    return f"{what}; {command(outcome.path, seed)}"


def command(path: str, seed: int) -> str:
    """Return what runs one case again."""
    return f"PYTHONPATH=tests python -m attack --seed {seed} --only {shlex.quote(path)}"


def form(outcomes: Sequence[Outcome], seed: int, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of JSON: counts, faults, and what it was measured on; with every outcome where one is a fault."""
    return {
        "cases": len(outcomes),
        "seed": seed,
        "counts": counts(outcomes),
        "operations": dict(collections.Counter(outcome.operation for outcome in outcomes)),
        "models": dict(sorted(collections.Counter(outcome.model for outcome in outcomes).items())),
        "longest_seconds": max((outcome.seconds for outcome in outcomes), default=0.0),
        "largest_share_of_limit": max((outcome.share for outcome in outcomes), default=0.0),
        "faults": [outcome.to_dict() for outcome in outcomes if outcome.fault],
        "machine": dict(machine),
    }
