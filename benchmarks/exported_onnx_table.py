"""Exports the bundled Paraformer under several recipes, runs the results, and writes the table of what they answer.

Accuracy and size alone: both are the same on every run.

`python benchmarks/exported_onnx_table.py` measures, keeps the figures as JSON, and writes the table from it; with
`--write` it writes the table from the JSON that is there.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from sottovoce import Model, Sample
from sottovoce.recipe.presets import PRESETS
from sottovoce.system.machine import describe_machine
from table_script import run

ROOT = Path(__file__).parents[1]
PARAFORMER, DATA = ROOT / "examples" / "models" / "tiny-paraformer", ROOT / "examples" / "data" / "mandarin-commands"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "exported_onnx.json"
RECIPES = ("float32", "int8", "int8-gptq", "int8-static", "int8-weight", "int4")
FORMATS = {name: ("onnx",) for name in RECIPES} | {"float32": ("onnx", "tensorrt"), "int4": ("onnx", "sherpa-onnx")}
ENGINES = ("onnxruntime", "onnxruntime-quantized", "sherpa-onnx", "sherpa-onnx-quantized")


def measure() -> dict[str, Any]:
    """Return how many texts of each graph are PyTorch's, and its size."""
    test = [_decoded(sample) for sample in sottovoce.read_samples(DATA / "test.jsonl")]
    graphs: list[dict[str, Any]] = []
    expected = _texts(sottovoce.load(PARAFORMER), test)
    for recipe in tqdm(RECIPES, "exported"):
        model = _compressed(recipe)
        texts = _texts(model, test)
        for format in FORMATS[recipe]:
            with tempfile.TemporaryDirectory() as folder:
                directory = sottovoce.export(model, format, Path(folder) / "exported")
                for graph, size, answers in _answers(directory, test):
                    facts = {"recipe": recipe, "format": format, "graph": graph, "size_bytes": size}
                    equal = {
                        name: {"pytorch": _same(heard, texts), "float": _same(heard, expected)}
                        for name, heard in answers.items()
                    }
                    graphs.append({**facts, "equal": equal})
    return {"machine": describe_machine(), "utterances": len(test), "graphs": graphs}


def _compressed(recipe: str) -> Model:
    model = sottovoce.load(PARAFORMER)
    if recipe in PRESETS:
        preset = PRESETS[recipe]
        sottovoce.compress(model, preset, DATA / "calibration.jsonl" if preset.needs_samples else None)
    return model


def _decoded(sample: Sample) -> Sample:
    assert sample.audio is not None
    return Sample(key=sample.key, audio=sottovoce.read_audio(sample.audio), text=sample.text)


def _texts(model: Model, samples: Sequence[Sample]) -> list[str]:
    return ["".join(model.architecture.runner.predict(model, sample).tokens) for sample in samples]


def _answers(directory: Path, samples: Sequence[Sample]) -> Iterator[tuple[str, int, dict[str, list[str]]]]:
    """Yield every recognizer's graph with its size and the texts of the engines that run it."""
    from sottovoce.engines.engine import registered_engines

    engines = [engine for engine in registered_engines() if engine.name in ENGINES and engine.fits(directory)]
    for graph in sorted(directory.glob("model*.onnx")):
        is_float = graph.name in ("model.onnx", "model.trt.onnx")
        answers = {}
        for engine in engines:
            if engine.name.endswith("-quantized") != is_float and not engine.missing():
                run: Callable[[Sample], Any] = engine.load(directory)
                answers[engine.name.removesuffix("-quantized")] = ["".join(run(sample).tokens) for sample in samples]
        yield graph.name, graph.stat().st_size, answers


def _same(texts: Sequence[str], others: Sequence[str]) -> int:
    return sum(text == other for text, other in zip(texts, others, strict=True))


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    count = figures["utterances"]
    rows = []
    for graph in figures["graphs"]:
        cells = [graph["recipe"], f"`{graph['format']}`", f"`{graph['graph']}`", f"{graph['size_bytes'] / 1e6:.1f} MB"]
        for engine, against in (("onnxruntime", "pytorch"), ("onnxruntime", "float"), ("sherpa-onnx", "pytorch")):
            number = graph["equal"].get(engine, {}).get(against)
            cells.append("" if number is None else f"{number} of {count}")
        rows.append(cells)
    header = ["recipe", "format", "graph", "size", "as PyTorch", "as float PyTorch", "as PyTorch, in sherpa-onnx"]
    machine, versions = figures["machine"], figures["machine"]["versions"]
    caption = (
        f"Utterances of {count} with the same text: in onnxruntime as the same model in PyTorch and as the float model "
        "in PyTorch, and in sherpa-onnx. Measured by `python benchmarks/exported_onnx_table.py` on "
        f"{machine['processor']}, onnxruntime {versions['onnxruntime']}, FunASR {versions['funasr']}."
    )
    return f"{format_table(header, rows)}\n\n{caption}"


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(__doc__, measure, FIGURES, [(BENCHMARKS, "exported_onnx", table)])


if __name__ == "__main__":
    sys.exit(main())
