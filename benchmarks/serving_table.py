"""The table of ``serving_load.py``'s results, which ``python benchmarks/large_tables.py`` writes."""

from __future__ import annotations

from typing import Any

from captions import measured_by
from markdown_tables import format_table


def table(figures: dict[str, Any]) -> str:
    """Return counts, memory and waiting times of a load test, and under it what it was measured on."""
    load = figures["load"]
    memory, long = load["memory"], load["long_audio"]
    rows = [
        ["requests answered", f"{load['requests'] - load['lost']} of {load['requests']}"],
        ["wrong answers", "; ".join(load["wrong"]) or "none"],
        ["audio in them", f"{load['audio_seconds'] / 3600:.1f} h, in {load['minutes']:g} minutes"],
        ["beside them", f"one recording of {long['minutes']:g} minutes"],
        ["garbage refused, connections closed", f"{load['garbage_refused']}, {load['connections_closed']}"],
        [
            "memory after the warm-up, at the end",
            f"{memory['after_warm_up_bytes'] / 1e6:.0f} MB, {memory['end_bytes'] / 1e6:.0f} MB "
            f"({memory['growth']:+.1%})",
        ],
        ["wait for `/health`: median, 95 %, 99 %", _waits(load["health"])],
        ["its longest wait while the recording is decoded", f"{1000 * long['health_max_seconds']:.0f} ms"],
        ["a request's time to that of the library, Paraformer-large in `int8`", _beside(figures["beside_library"])],
    ]
    return f"{format_table(['load test', 'result'], rows)}\n\n{measured_by('serving_load.py', figures['machine'])}"


def _waits(seconds: dict[str, float]) -> str:
    return ", ".join(f"{1000 * seconds[name]:.0f} ms" for name in ("p50", "p95", "p99"))


def _beside(turns: dict[str, Any]) -> str:
    low, high = turns["ratio_quartiles"]
    return f"{turns['ratio']:.3f} ({low:.3f} to {high:.3f}, {turns['rounds']} rounds)"
