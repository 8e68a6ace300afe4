"""Exports the bundled Paraformer as it is and compressed, runs the files in their engines, and writes the table.

`python benchmarks/exported_table.py` measures with the engines that are installed, keeps the figures as JSON, and
writes the table from it; with `--write` it writes the table from the JSON that is there. `--format` measures some
formats alone, and leaves the other figures as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from captions import measured_by
from markdown_tables import format_table, write_section
from sottovoce.engines.engine import registered_engines
from sottovoce.recipe.presets import PRESETS
from workers import machine

ROOT = Path(__file__).parents[1]
MODEL, DATA = ROOT / "examples" / "models" / "tiny-paraformer", ROOT / "examples" / "data" / "mandarin-commands"
PAGE = ROOT / "docs" / "how-to" / "export-graphs.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "exported.json"
FORMATS = {"openvino": "openvino", "torch-export": "torch", "torchscript": "torch", "executorch": "executorch"}
"""Formats, each with the library that runs it."""
MODELS = ("float32", "int8", "int8-weight", "int4")


def measure(formats: Sequence[str]) -> dict[str, Any]:
    """Return, by format and model, the size of the graph and how many texts are those of PyTorch."""
    test = [
        sottovoce.Sample(key=sample.key, audio=sottovoce.read_audio(sample.audio), text=sample.text)
        for sample in sottovoce.read_samples(DATA / "test.jsonl")
        if sample.audio is not None
    ]
    results: dict[str, dict[str, Any]] = {name: {} for name in formats}
    of_float: list[str] = []
    for name in MODELS:
        model = sottovoce.load(MODEL)
        if name != "float32":
            recipe = PRESETS[name]
            sottovoce.compress(model, recipe, DATA / "calibration.jsonl" if recipe.needs_samples else None)
        texts = [model.architecture.runner.predict(model, sample).text or "" for sample in test]
        of_float = of_float or texts
        for format in tqdm(formats, name):
            with tempfile.TemporaryDirectory() as folder:
                path = sottovoce.export(model, format, Path(folder) / "exported")
                answers = _answers(format, path, test)
                size = sum(file.stat().st_size for file in path.iterdir() if file.name.startswith("model."))
            results[format][name] = {
                "size_bytes": size,
                "same": sum(map(str.__eq__, answers, texts)),
                "same_as_float": sum(map(str.__eq__, answers, of_float)),
            }
    libraries = ("torch", *sorted({FORMATS[name] for name in formats} - {"torch"}))
    return {"utterances": len(test), "formats": results, "machine": machine(1, libraries)}


def _answers(format: str, path: Path, samples: Sequence[sottovoce.Sample]) -> list[str]:
    engine = next(engine for engine in registered_engines() if engine.name == format and engine.fits(path))
    run = engine.load(path)
    return [run(sample).text or "" for sample in samples]


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    rows = [
        [
            f"`{format}`",
            model if model == "float32" else f"`{model}`",
            f"{cell['size_bytes'] / 1e6:.1f} MB",
            str(cell["same"]),
            str(cell["same_as_float"]),
        ]
        for format in FORMATS
        for model, cell in figures["formats"].get(format, {}).items()
    ]
    count = figures["utterances"]
    header = ["format", "model", "graph", f"texts of {count} as the same model's", "as the float model's"]
    return f"{format_table(header, rows)}\n\n{measured_by('exported_table.py', figures['machine'])}"


def _merged(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return new figures with those of other formats, measured before."""
    versions = known.get("machine", {}).get("versions", {}) | new["machine"]["versions"]
    return new | {
        "formats": known.get("formats", {}) | new["formats"],
        "machine": new["machine"] | {"versions": versions},
    }


def main() -> None:
    """Measure, unless told to use the last figures, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table from the figures that are there")
    parser.add_argument("--format", choices=FORMATS, action="append", help="a format to measure; by default all")
    arguments = parser.parse_args()
    if not arguments.write:
        warnings.simplefilter("ignore")
        known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
        figures = _merged(known, measure(arguments.format or tuple(FORMATS)))
        FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_section(PAGE, "exported", table(json.loads(FIGURES.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
