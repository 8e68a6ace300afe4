"""Rounds the bundled models to 4 bits by every method, and writes the table of how far their answers move.

`python benchmarks/rounding_table.py` measures, keeps the figures as JSON, and writes the table of docs/benchmarks.md
from it; with `--write` it writes the table from the JSON that is there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from sottovoce import Samples
from sottovoce.calibration.reference import Reference
from sottovoce.system.machine import describe_machine
from table_script import run

ROOT = Path(__file__).parents[1]
MODELS = {"Paraformer": "tiny-paraformer", "aligner": "tiny-aligner"}
DATA = ROOT / "examples" / "data" / "mandarin-commands"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "rounding.json"
QUANTIZE = {"step": "quantize", "bits": 4, "weight_range": "mse", "embeddings": "auto"}
FEW, MANY = "calibration", "train"
ROWS = {
    "rounded to nearest": ("round_to_nearest", FEW),
    "HQQ": ("hqq", FEW),
    "AWQ (`int4-awq`)": ("awq", FEW),
    "GPTQ": ("gptq", FEW),
    "GPTAQ (`int4`)": ("gptaq", FEW),
    "GPTQ, ten times the samples": ("gptq", MANY),
    "GPTAQ, ten times the samples": ("gptaq", MANY),
}
"""Method and samples of every row."""
COMPARED = "GPTQ"
"""Row that the others are compared with."""
FIFTH = 5
"""Of the training samples every fifth is measured on, and of the others every third is calibrated on."""
OTHERS = "others"


def measure() -> dict[str, Any]:
    """Return the divergence of every model, method and set of samples, in nats per token."""
    train = sottovoce.read_samples(DATA / "train.jsonl")
    sets = {
        "test": sottovoce.read_samples(DATA / "test.jsonl"),
        "dev": sottovoce.read_samples(DATA / "dev.jsonl"),
        OTHERS: Samples(tuple(train[::FIFTH])),
    }
    rest = [sample for place, sample in enumerate(train) if place % FIFTH]
    calibration = {FEW: sottovoce.read_samples(DATA / "calibration.jsonl"), MANY: Samples(tuple(rest[::3]))}
    models = {name: _measure_model(folder, sets, calibration) for name, folder in MODELS.items()}
    counts = {name: len(samples) for name, samples in (*sets.items(), *calibration.items())}
    return {"machine": describe_machine(), "samples": counts, "models": models}


def _measure_model(folder: str, sets: Mapping[str, Samples], calibration: Mapping[str, Samples]) -> dict[str, Any]:
    source = ROOT / "examples" / "models" / folder
    base = sottovoce.load(source)
    references = {name: Reference(base, samples) for name, samples in sets.items()}
    rows: dict[str, Any] = {}
    for title, (method, samples) in tqdm(ROWS.items(), folder):
        model = sottovoce.load(source)
        sottovoce.compress(model, {"steps": [{**QUANTIZE, "method": method}]}, calibration[samples])
        rows[title] = {name: reference.divergence(model)["all"] for name, reference in references.items()}
    return rows


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    counts, models = figures["samples"], figures["models"]
    sets = [name for name in counts if name not in (FEW, MANY)]
    header = ["4 bits by", *(f"{model}, {name}" for model in models for name in sets)]
    rows = [[title, *(_cell(models[model], title, name) for model in models for name in sets)] for title in ROWS]
    machine, versions = figures["machine"], figures["machine"]["versions"]
    caption = (
        "Divergence from float32 in millionths of a nat per token; in parentheses is the change from "
        f"{COMPARED}. The sets have {', '.join(str(counts[name]) for name in sets)} utterances; the last are of the "
        f"training data. Methods calibrate on {counts[FEW]} samples, and in the last rows on {counts[MANY]}. Measured "
        f"by `python benchmarks/rounding_table.py` on {machine['processor']}, torch {versions['torch']}, FunASR "
        f"{versions['funasr']}, transformers {versions['transformers']}."
    )
    return f"{format_table(header, rows)}\n\n{caption}"


def _cell(rows: Mapping[str, Any], title: str, name: str) -> str:
    value, before = rows[title][name], rows[COMPARED][name]
    change = "" if title == COMPARED else f" ({value / before - 1:+.0%})"
    return f"{1e6 * value:.0f}{change}"


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(__doc__, measure, FIGURES, [(BENCHMARKS, "rounding", table)])


if __name__ == "__main__":
    sys.exit(main())
