"""Cells and captions that tables of measured runs share."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

BUSY = 0.5
"""Load average above the benchmark's own threads from which other work is said to have run."""


def measured_by(script: str, machine: Mapping[str, Any]) -> str:
    """Return the sentences that say what measured a table, and on what.

    Args:
        script: Name of the file in ``benchmarks/``.
        machine: What ``workers.machine`` returned, with ``load_average`` before and after the runs if it is known.
    """
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    features = [
        flag.replace("_", "-") for flag in machine["flags"] if "vnni" in flag or "bf16" in flag or "amx" in flag
    ]
    processor = f"{machine['processor']} ({', '.join(features)})" if features else machine["processor"]
    text = (
        f"Measured by `python benchmarks/{script}` on {processor}, {machine['threads']} of {machine['cores']} cores, "
        f"{versions}."
    )
    load = machine.get("load_average", [])
    if load and max(load) > machine["threads"] + BUSY:
        text += f" Other work ran on the machine: its load average was {load[0]:.1f} before and {load[-1]:.1f} after."
    return text


def time_and_ratio(run: Mapping[str, Any], unit: str = "s") -> str:
    """Return the median time of a path, with its ratio to the peer and the quartiles of the rounds' ratios."""
    time = milliseconds(run["seconds"]) if unit == "ms" else f"{run['seconds']:.2f} s"
    return f"{time} ({spread(run)})"


def spread(run: Mapping[str, Any]) -> str:
    """Return the median of the rounds' ratios, and their quartiles if there are any."""
    ratios = run.get("ratios", [])
    if len(ratios) < 2 or min(ratios) == max(ratios):
        return f"{run['ratio']:.2f}"
    first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{run['ratio']:.2f}, {first:.2f} to {third:.2f}"


def ratios_to(peer: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence that says what the ratios are; results of before have no quartiles."""
    quartiles = ", and the quartiles" if any("ratios" in run for run in runs) else ""
    return f"In parentheses is the ratio to {peer}: the median of all rounds{quartiles}."


def cost(making: Mapping[str, Any] | None) -> str:
    """Return time and peak memory of a process; nothing if it did not run."""
    return "" if making is None else f"{making['seconds']:.0f} s, {gigabytes(making['peak_memory_bytes'])}"


def milliseconds(seconds: float) -> str:
    """Format a time in ms."""
    return f"{seconds * 1e3:.0f} ms"


def megabytes(count: float) -> str:
    """Format a size in MB."""
    return f"{count / 1e6:.0f} MB"


def gigabytes(count: float) -> str:
    """Format a size in GB."""
    return f"{count / 1e9:.2f} GB"
