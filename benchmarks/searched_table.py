"""Searches recipes for the bundled Paraformer and compares them with uniform ones of their size; writes their table.

`python benchmarks/searched_table.py` measures, keeps the figures as JSON, and writes the tables of docs/benchmarks.md
from it; with `--write` it writes the tables from the JSON that is there.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from sottovoce.calibration.reference import Reference
from sottovoce.recipe.presets import PRESETS
from sottovoce.system.machine import describe_machine
from table_script import run

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "models" / "tiny-paraformer"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "searched.json"
CALIBRATION = DATA / "calibration.jsonl"
SPLITS = ("test", "dev")
CAST: dict[str, Any] = {"step": "cast"}
UNIFORM: dict[str, tuple[dict[str, Any], ...]] = {
    "2 bits, groups of up to 64": ({"bits": 2},),
    "2 bits, groups of 8": ({"bits": 2, "group_size": 8},),
    "3 bits, groups of up to 64": ({"bits": 3},),
    "3 bits, groups of up to 64, `cast`": ({"bits": 3}, CAST),
    "3 bits, groups of 16, `cast`": ({"bits": 3, "group_size": 16}, CAST),
    "4 bits, groups of up to 64": ({"bits": 4},),
    "4 bits, groups of 16": ({"bits": 4, "group_size": 16},),
    "4 bits, groups of 8": ({"bits": 4, "group_size": 8},),
}
"""Settings that all layers have alike, and steps after that; the budgets are the sizes of what they give.

The method is the search's. It may cast what stays float, so some of these do too.
"""
ROUNDS = 5
COST = "int8-gptq"
"""Preset that the time of a search is compared with."""


def measure() -> dict[str, Any]:
    """Return the figures of every uniform recipe, of the recipe that is found at its size, and of the cost."""
    base = sottovoce.load(MODEL)
    references = {split: Reference(base, list(_samples(split))) for split in SPLITS}
    cost = _cost()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, (setting, *further) in tqdm(UNIFORM.items(), "searches"):
            step = {"step": "quantize", "method": "gptq", "weight_range": "mse", "embeddings": "auto", **setting}
            uniform = _figures(_compressed({"steps": [step, *further]}), references)
            budget = uniform["size_bytes"]
            result, seconds = _cpu_seconds(lambda budget=budget: _search(budget, Path(folder) / "shared"))
            rows[title] = {
                "uniform": uniform,
                "searched": _figures(_compressed(result.recipe), references),
                "promised": {"size_bytes": result.size_bytes["after"], "dev": result.divergence["all"]},
                "interval": list(result.interval),
                "cpu_seconds": seconds,
            }
    return {"machine": describe_machine(), "rows": rows, "cpu_seconds": cost}


def _cost() -> dict[str, Any]:
    """Return the CPU seconds of a search and of a calibration, in rounds in which they take turns."""
    work = {
        COST: lambda: _compressed(PRESETS[COST]),
        "search": lambda: sottovoce.search(MODEL, CALIBRATION, "2.45MB"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(1 + ROUNDS):
        for name, timed in work.items():
            spent = _cpu_seconds(timed)[1]
            seconds[name] += [spent] if number else []  # the first has imports and compiles operations
    ratios = [search / other for search, other in zip(seconds["search"], seconds[COST], strict=True)]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {**medians, "ratio": statistics.median(ratios), "ratios": [min(ratios), max(ratios)]}


def _search(budget: int | str, cache: Path) -> sottovoce.SearchResult:
    return sottovoce.search(MODEL, CALIBRATION, budget, held_out=DATA / "dev.jsonl", cache=cache)


def _compressed(recipe: Any) -> sottovoce.Model:
    model = sottovoce.load(MODEL)
    sottovoce.compress(model, recipe, CALIBRATION)
    return model


def _figures(model: sottovoce.Model, references: dict[str, Reference]) -> dict[str, Any]:
    """Return the size of a compressed model as it is written, and what it loses on every split."""
    with tempfile.TemporaryDirectory() as folder:
        size = (sottovoce.save(model, Path(folder) / "model") / "model.safetensors").stat().st_size
    return {
        "size_bytes": size,
        "divergence": {split: reference.divergence(model)["all"] for split, reference in references.items()},
        "cer": {split: sottovoce.evaluate(model, _samples(split)).metrics["cer"].value for split in SPLITS},
    }


def _samples(split: str) -> sottovoce.Samples:
    return sottovoce.read_samples(DATA / f"{split}.jsonl")


def _cpu_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.process_time()
    return work(), time.process_time() - begin


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    header = ["", "on disk", "divergence, test", "dev", "promised on dev", "character error rate, test", "dev"]
    rows = []
    for title, row in figures["rows"].items():
        for name, part, before in ((title, row["uniform"], None), ("searched", row["searched"], row["uniform"])):
            promise = "" if before is None else _number(row["promised"]["dev"])
            sizes = f"{part['size_bytes'] / 1e6:.2f} MB"
            nats = [_changed(part, before, split) for split in SPLITS]
            errors = [f"{part['cer'][split]:.2f} %" for split in SPLITS]
            rows.append([name, sizes, *nats, promise, *errors])
    return "\n\n".join([format_table(header, rows), _caption(figures)])


def _changed(part: dict[str, Any], before: dict[str, Any] | None, split: str) -> str:
    value = part["divergence"][split]
    change = "" if before is None else f" ({value / before['divergence'][split] - 1:+.0%})"
    return f"{_number(value)}{change}"


def _number(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-3 else f"{value:.6f}"


def _caption(figures: dict[str, Any]) -> str:
    rows, cost = figures["rows"].values(), figures["cpu_seconds"]
    sizes = max(abs(row["searched"]["size_bytes"] / row["promised"]["size_bytes"] - 1) for row in rows)
    later = [row["cpu_seconds"] for row in list(rows)[1:]]
    machine, versions = figures["machine"], figures["machine"]["versions"]
    return (
        "Divergence in nats per token; in parentheses is the change from the uniform recipe above. Every promised size "
        f"is within {sizes:.2%} of the file's. A search of its own, without held-out samples, takes "
        f"{cost['search']:.1f} s of CPU time, and `{COST}` {cost[COST]:.1f} s: {cost['ratio']:.2f} times as long "
        f"({cost['ratios'][0]:.2f} to {cost['ratios'][1]:.2f} in {ROUNDS} rounds). The further searches took "
        f"{min(later):.0f} to {max(later):.0f} s, with a trial on `dev`. "
        f"Measured by `python benchmarks/searched_table.py` on {machine['processor']}, {machine['threads']} of "
        f"{machine['cores']} cores, torch {versions['torch']}, FunASR {versions['funasr']}."
    )


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(__doc__, measure, FIGURES, [(BENCHMARKS, "searched", table)])


if __name__ == "__main__":
    sys.exit(main())
