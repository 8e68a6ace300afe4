"""Measures the bundled omni model under recipes, and writes the tables of docs/benchmarks.md and its own README.md.

`python benchmarks/omni_table.py` measures, keeps the figures as JSON, and writes the tables from it; with `--write` it
writes the tables from the JSON that is there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from table_script import run

ROOT = Path(__file__).parents[1]
MODEL, DATA = ROOT / "examples" / "models" / "tiny-omni", ROOT / "examples" / "data" / "omni-tasks"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "omni.json"
KINDS = ("text", "audio", "image", "video")


def _prune(keep: float | int, saliency: str) -> dict[str, Any]:
    return {"steps": [{"step": "prune_experts", "keep": keep, "saliency": saliency}]}


RECIPES: dict[str, Any] = {
    "`reap50`": "reap50",
    "half of the experts by `frequency`": _prune(0.5, "frequency"),
    "three quarters by `reap`": _prune(0.25, "reap"),
    "three quarters by `frequency`": _prune(0.25, "frequency"),
    "all but two by `frequency`": _prune(2, "frequency"),
    "`int8`": "int8",
    "`int4`": "int4",
    "`int4-awq`": "int4-awq",
    "`reap50-int4`": "reap50-int4",
    "`skip_experts`, threshold 0.5": {"steps": [{"step": "skip_experts", "threshold": 0.5}]},
}
"""Recipes that are measured, by the name of their row."""
PRUNED = tuple(title for title in RECIPES if "reap" in title or "frequency" in title)


def measure() -> dict[str, Any]:
    """Return the figures of the model as it was trained and under every recipe."""
    calibration, test = (sottovoce.read_samples(DATA / f"{split}.jsonl") for split in ("calibration", "test"))
    base = sottovoce.load(MODEL)
    rows: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    for title, recipe in tqdm({"as trained (bfloat16)": None, **RECIPES}.items(), "recipes"):
        model = sottovoce.load(MODEL)
        report = None
        if recipe is not None:
            report = sottovoce.compress(model, recipe, calibration)
        measured = sottovoce.evaluate(model, test, None if recipe is None else base)
        machine = dict(measured.machine)
        metrics = {name: metric.value for name, metric in measured.metrics.items()}
        names = ("size_bytes", "divergence", "expert_runs", *(f"accuracy_{kind}" for kind in KINDS))
        rows[title] = {name: metrics[name] for name in names if name in metrics}
        rows[title]["parameter_bits"] = report.parameter_bits["after"] if report and report.parameter_bits else None
    counts = {kind: sum(sample.modality == kind for sample in test) for kind in KINDS}
    return {"machine": machine, "questions": counts, "calibration": len(calibration), "rows": rows}


def table(figures: dict[str, Any], titles: tuple[str, ...] | None = None) -> str:
    """Return the Markdown of a table, and under it what it was measured on."""
    rows = []
    for title, row in figures["rows"].items():
        if titles is not None and title not in titles and row["parameter_bits"] is not None:
            continue
        name = title
        if row.get("expert_runs") is not None and "skip" in title:
            name = f"{title}: {row['expert_runs']:.2f} experts run for a token"
        bits = row["parameter_bits"] or {}
        divergence = row.get("divergence")
        rows.append(
            [
                name,
                f"{row['size_bytes'] / 1e6:.1f} MB",
                _narrow(bits),
                *(f"{row[f'accuracy_{kind}']:g} %" for kind in KINDS),
                "" if divergence is None else f"{divergence:.2g}",
            ]
        )
    machine, counts = figures["machine"], figures["questions"]
    header = ["", "size", "weights in 4 and 8 bits", *KINDS, "divergence, nats"]
    kinds, versions = ", ".join(f"{number} {kind}" for kind, number in counts.items()), machine["versions"]
    summary = (
        f"Right answers on {sum(counts.values())} test questions ({kinds}); calibrated on {figures['calibration']} "
        f"conversations. Measured by `python benchmarks/omni_table.py` on {machine['processor']}, "
        f"{machine['threads']} of {machine['cores']} cores, torch {versions['torch']}, "
        f"transformers {versions['transformers']}."
    )
    return f"{format_table(header, rows)}\n\n{summary}"


def _narrow(bits: dict[str, int]) -> str:
    """Return the shares of the parameters that have 4 and 8 bits."""
    whole = sum(bits.values())
    shares = [f"{100 * bits[width] / whole:.0f} % in {width}" for width in ("4", "8") if bits.get(width)]
    return ", ".join(shares)


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(
        __doc__,
        measure,
        FIGURES,
        [(BENCHMARKS, "omni", table), (MODEL / "README.md", "experts", lambda figures: table(figures, PRUNED))],
    )


if __name__ == "__main__":
    sys.exit(main())
