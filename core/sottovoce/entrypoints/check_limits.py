"""Limits of a check: bounds on what an engine's run measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sottovoce.checkpoint.report_file import report_of
from sottovoce.errors import UsageError

MEASURES = (
    *("differing", "load_s", "first_answer_s", "latency_p50_ms", "latency_p95_ms", "rtf", "ms_per_token"),
    *("peak_memory_bytes", "cer", "wer", "cer_increase", "wer_increase"),
)
"""Names that a limit may bound, with ``max_`` before them; an increase is that over Sottovoce's own run."""


def exceeded(measures: Mapping[str, float | None], limits: Mapping[str, float]) -> Iterator[str]:
    """Yield the limits that are not held, with what was measured.

    Raises:
        UsageError: A limit is unknown.
    """
    known = {f"max_{name}": name for name in MEASURES}
    if unknown := [limit for limit in limits if limit not in known]:
        raise UsageError(f"there is no limit {unknown[0]!r}; known: {', '.join(known)}")
    return (
        f"{limit} {bound:g} (measured {value:g})"
        for limit, bound in limits.items()
        if (value := measures.get(known[limit])) is not None and value > bound
    )


def gate_limits(directory: Path) -> dict[str, float]:
    """Return the bounds of the recipe's gate that every engine's error rates have to hold as well."""
    report = report_of(directory)
    gate = report.recipe.get("gate") or {} if report is not None else {}
    known = {f"max_{name}" for name in MEASURES}
    return {name: float(bound) for name, bound in gate.items() if name in known}
