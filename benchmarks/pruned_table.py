"""Prunes the bundled models by many recipes, and writes the tables of docs/benchmarks.md.

`python benchmarks/pruned_table.py` measures, keeps the figures as JSON, and writes the tables from it; with `--write`
it writes the tables from the JSON that is there. `--recipes "TITLE;TITLE"` measures these alone, and leaves the others.
The page says which were never measured.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from markdown_tables import format_table, write_section
from pruned_recipes import ALIGNER, OMNI, PARAFORMER, RECIPES, TITLES
from sottovoce.system.machine import describe_machine

ROOT = Path(__file__).parents[1]
MODELS, DATA = ROOT / "examples" / "models", ROOT / "examples" / "data"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "pruned.json"
BASE = "as it is"
KINDS = ("text", "audio", "image", "video")
DATA_OF = {PARAFORMER: "mandarin-commands", ALIGNER: "mandarin-commands", OMNI: "omni-tasks"}
SPLITS = {PARAFORMER: ("test", "dev"), ALIGNER: ("test",), OMNI: ("test",)}


Recipes = Mapping[str, Mapping[str, list[dict[str, Any]]]]
"""Steps by the model and the name of their row."""


def measure(
    titles: Collection[str], recipes_of: Recipes = RECIPES, training: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """Return the figures of every model as it is, and under its recipes among ``titles``.

    Args:
        titles: Names of rows.
        recipes_of: The recipes.
        training: Manifests of samples for steps that train, by model.
    """
    models: dict[str, Any] = {}
    for name, recipes in recipes_of.items():
        chosen = {title: {"steps": recipes[title]} for title in recipes if title in titles}
        if not chosen:
            continue
        base = sottovoce.load(MODELS / name)
        parameters = sum(parameter.numel() for parameter in base.module.parameters())
        row = {"parameters": parameters, "size_bytes": _size(MODELS / name), **_evaluate(name, base, None)}
        rows = {BASE: row}
        for title, recipe in tqdm(chosen.items(), name):
            rows[title] = _measure_recipe(name, base, recipe, (training or {}).get(name))
        models[name] = rows
    return {"machine": describe_machine(), "models": models}


def merged(known: dict[str, Any], new: dict[str, Any], recipes_of: Recipes) -> dict[str, Any]:
    """Return the figures with new rows in place of old ones, in the order of the recipes."""
    models: dict[str, Any] = {}
    for name, recipes in recipes_of.items():
        rows = {**known.get("models", {}).get(name, {}), **new["models"].get(name, {})}
        if rows:
            models[name] = {title: rows[title] for title in (BASE, *recipes) if title in rows}
    return {"machine": new["machine"], "models": models}


def _measure_recipe(name: str, base: sottovoce.Model, recipe: dict[str, Any], training: Path | None) -> dict[str, Any]:
    """Compress a model, save it, and measure what was saved."""
    model = sottovoce.load(MODELS / name)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    report = sottovoce.compress(model, recipe, _samples(name, "calibration"), training_samples=training)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    with tempfile.TemporaryDirectory() as folder:
        size = _size(sottovoce.save(model, Path(folder) / "pruned"))
    assert report.parameter_bits is not None
    parameters = sum(report.parameter_bits.after.values())
    return {
        "parameters": parameters,
        "size_bytes": size,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "processor": describe_machine()["processor"],
        **_evaluate(name, model, base),
    }


def _evaluate(name: str, model: sottovoce.Model, base: sottovoce.Model | None) -> dict[str, Any]:
    """Return the metrics on every split, with their details."""
    metrics = {split: sottovoce.evaluate(model, _samples(name, split), base).metrics for split in SPLITS[name]}
    kept = ("cer", "boundary_shift_ms", "boundary_agreement", "divergence", *(f"accuracy_{kind}" for kind in KINDS))
    return {
        split: {
            key: {"value": metric.value, "details": dict(metric.details)} for key, metric in of.items() if key in kept
        }
        for split, of in metrics.items()
    }


def _samples(name: str, split: str) -> sottovoce.Samples:
    return sottovoce.read_samples(DATA / DATA_OF[name] / f"{split}.jsonl")


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def table(figures: dict[str, Any], script: str = "pruned_table", titles: Collection[str] = TITLES) -> str:
    """Return the Markdown of a table for every model, and under them what they were measured on."""
    tables = [
        format_table([title, "parameters", "on disk", *columns], _rows(figures["models"][name], cells))
        for name, (title, columns, cells) in LAYOUTS.items()
        if name in figures["models"]
    ]
    measured = {title for rows in figures["models"].values() for title in rows}
    missing = [title for title in titles if title not in measured]
    machine, versions = figures["machine"], figures["machine"]["versions"]
    known = [row.get("processor") for rows in figures["models"].values() for row in rows.values()]
    processors = list(dict.fromkeys([machine["processor"], *filter(None, known)]))
    caption = (
        f"In parentheses is the change. Measured by `python benchmarks/{script}.py` on {' and '.join(processors)}, "
        f"{machine['threads']} of {machine['cores']} cores, torch {versions['torch']}, FunASR {versions['funasr']}, "
        f"transformers {versions['transformers']}."
    )
    if missing:
        caption += f" Not measured: {'; '.join(missing)}."
    return "\n\n".join([*tables, caption])


def _rows(rows: dict[str, Any], cells: Callable[[dict[str, Any], dict[str, Any]], list[str]]) -> list[list[str]]:
    base = rows[BASE]
    return [
        [title, f"{row['parameters'] / 1e6:.2f} million", f"{row['size_bytes'] / 1e6:.2f} MB", *cells(row, base)]
        for title, row in rows.items()
    ]


def _changed(row: dict[str, Any], base: dict[str, Any], split: str, metric: str, form: str) -> str:
    """Format a value, with its change from the model as it is."""
    value, before = row[split][metric]["value"], base[split][metric]["value"]
    return form.format(value) if row is base else f"{form.format(value)} ({value - before:+.2f})"


def _heard(row: dict[str, Any], base: dict[str, Any]) -> list[str]:
    return [_changed(row, base, split, "cer", "{:.2f} %") for split in SPLITS[PARAFORMER]]


def _aligned(row: dict[str, Any], base: dict[str, Any]) -> list[str]:
    agreement = row["test"].get("boundary_agreement")
    within = f"{agreement['details']['within_80_ms']:.2f} %" if agreement else ""
    same = f"{agreement['value']:.2f} %" if agreement else ""
    return [_changed(row, base, "test", "boundary_shift_ms", "{:.1f} ms"), within, same]


def _answered(row: dict[str, Any], base: dict[str, Any]) -> list[str]:
    divergence = row["test"].get("divergence")
    accuracies = [_changed(row, base, "test", f"accuracy_{kind}", "{:g} %") for kind in KINDS]
    return [*accuracies, f"{divergence['value']:.2g}" if divergence else ""]


LAYOUTS: dict[str, tuple[str, tuple[str, ...], Callable[[dict[str, Any], dict[str, Any]], list[str]]]] = {
    PARAFORMER: ("Paraformer", ("character error rate, test", "dev"), _heard),
    ALIGNER: (
        "aligner",
        ("mean shift from the true times", "boundaries within 80 ms of before", "identical"),
        _aligned,
    ),
    OMNI: ("omni", (*KINDS, "divergence, nats"), _answered),
}
"""Corner and columns of every model's table, and the function that fills them."""


def main() -> int:
    """Measure where it was not said otherwise, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables from the figures that are there")
    parser.add_argument("--recipes", default=";".join(TITLES), help="titles of rows to measure, with ; between them")
    given = parser.parse_args()
    titles = given.recipes.split(";")
    if unknown := [title for title in titles if title not in TITLES]:
        parser.error(f"there is no recipe {unknown[0]!r}; there are: {'; '.join(TITLES)}")
    if not given.write:
        warnings.simplefilter("ignore")
        logging.getLogger("sottovoce").setLevel(logging.ERROR)
        known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        figures = merged(known, measure(titles), RECIPES)
        FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    is_changed = write_section(BENCHMARKS, "pruned", table(json.loads(FIGURES.read_text(encoding="utf-8"))))
    print(f"docs/benchmarks.md: {'written' if is_changed else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
