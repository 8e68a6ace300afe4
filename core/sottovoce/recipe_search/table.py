"""Table of a search for people."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table

from sottovoce.calibration.reference import ALL
from sottovoce.recipe_search.result import Point, SearchResult
from sottovoce.recipe_search.structures import STRUCTURES, WHOLE
from sottovoce.report.number_format import count, counted, number, size


def of_search(result: SearchResult, path: Path) -> Table:
    """Return the table: the recipe, uniform recipes, and the best mixes of other sizes."""
    before, after = result.size_bytes["before"], result.size_bytes["after"]
    title = f"{path}: {size(before)} -> {size(after)} (x {after / before:.3f})"
    table = Table(title=title, title_justify="left")
    table.add_column("recipe")
    for name in ("size on disk", "divergence alone, summed", "on held-out samples"):
        table.add_column(name, justify="right")
    low, high = map(number, result.interval)
    measured = f"{number(result.divergence[ALL])} ({low} to {high})"
    table.add_row("this one, measured", _size(after), number(result.predicted), measured)
    table.add_section()
    for point in (*result.uniform, *result.front):
        table.add_row(f"{point.name} for all" if point.name != "mix" else "best mix, expected", *_numbers(point))
    parts = [f"{name}: {state}" for name, state in _parts(result) if state != WHOLE]
    choices = Counter(name for unit, name in result.choices.items() if unit.split()[0] not in STRUCTURES)
    lines = ["; ".join([*parts, *(f"{name}: {counted(layers, 'layer')}" for name, layers in choices.items())])]
    kinds = {kind: nats for kind, nats in result.divergence.items() if kind != ALL}
    if kinds:
        lines.append("by kind: " + "; ".join(f"{kind} {number(nats)}" for kind, nats in kinds.items()))
    lines += [f"{name}: {number(value)}" for name, value in result.limits.items()]
    if result.latency is not None:
        shares = {name: seconds / result.latency["before"] for name, seconds in result.latency.items()}
        lines.append(f"time: x {shares['after']:.3f} by the table of layers, x {shares['measured']:.3f} when it runs")
    lines.append("divergence in nats per token; " + ", ".join(f"{k} {v:.1f} s" for k, v in result.seconds.items()))
    table.caption, table.caption_justify = "\n".join(lines), "left"
    return table


def _parts(result: SearchResult) -> list[tuple[str, str]]:
    return [(name, state) for name, state in result.choices.items() if name.split()[0] in STRUCTURES]


def _size(size_bytes: int) -> str:
    return f"{count(round(size_bytes / 1000))} kB"


def _numbers(point: Point) -> tuple[str, str, str]:
    expected = "" if point.expected is None else number(point.expected)
    return _size(point.size_bytes), number(point.divergence), expected
