"""Exports the bundled aligner under several recipes, runs the results, and writes the table of their boundaries.

Accuracy and size alone: both are the same on every run.

`python benchmarks/exported_aligner_table.py` measures, keeps the figures as JSON, and writes the table from it; with
`--write` it writes the table from the JSON that is there. It needs the extras onnx, openvino and executorch.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from sottovoce import Model, Prediction, Sample
from sottovoce.recipe.presets import PRESETS
from sottovoce.system.machine import describe_machine
from sottovoce_forced_aligner import engines
from sottovoce_forced_aligner.inference import predict
from table_script import run

ROOT = Path(__file__).parents[1]
ALIGNER, DATA = ROOT / "examples" / "models" / "tiny-aligner", ROOT / "examples" / "data" / "mandarin-commands"
PAGE = ROOT / "docs" / "how-to" / "export-aligner.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "exported_aligner.json"
RECIPES = ("float32", "int8", "int8-weight", "int4")
FORMATS = ("onnx", "openvino", "torch-export", "executorch", "tensorrt")
ENGINES = (
    engines.OnnxRuntime(),
    engines.OnnxRuntimeQuantized(),
    engines.OpenVINO(),
    engines.TorchExport(),
    engines.ExecuTorch(),
    engines.OnnxRuntimeTensorRT(),
)

Times = NDArray[np.float64]


def measure() -> dict[str, Any]:
    """Return which share of each graph's boundaries are PyTorch's, and the size of its files."""
    test = [_decoded(sample) for sample in sottovoce.read_samples(DATA / "test.jsonl")]
    expected = _boundaries(functools.partial(predict, sottovoce.load(ALIGNER)), test)
    graphs: list[dict[str, Any]] = []
    for recipe in tqdm(RECIPES, "exported"):
        model = _compressed(recipe)
        compressed = _boundaries(functools.partial(predict, model), test)
        for format in FORMATS:
            with tempfile.TemporaryDirectory() as folder:
                for graph, size, times in _runs(sottovoce.export(model, format, Path(folder) / "exported"), test):
                    facts = {"recipe": recipe, "format": format, "graph": graph, "size_bytes": size}
                    graphs.append({**facts, "pytorch": _share(times, compressed), "float": _share(times, expected)})
    facts = {"utterances": len(test), "boundaries": len(expected)}
    machine = describe_machine()
    machine["versions"] |= {name: metadata.version(name) for name in ("openvino", "executorch")}
    return {"machine": machine, **facts, "graphs": graphs}


def _compressed(recipe: str) -> Model:
    model = sottovoce.load(ALIGNER)
    if recipe in PRESETS:
        preset = PRESETS[recipe]
        sottovoce.compress(model, preset, DATA / "calibration.jsonl" if preset.needs_samples else None)
    return model


def _decoded(sample: Sample) -> Sample:
    assert sample.audio is not None
    return dataclasses.replace(sample, audio=sottovoce.read_audio(sample.audio))


def _boundaries(run: Callable[[Sample], Prediction], samples: Sequence[Sample]) -> Times:
    times = [time for sample in samples for pair in run(sample).timestamps or () for time in pair]
    return np.array(times)


def _runs(directory: Path, samples: Sequence[Sample]) -> Iterator[tuple[str, int, Times]]:
    """Yield every graph with the bytes of its files and its boundaries."""
    for engine in ENGINES:
        if engine.fits(directory):
            stem = Path(engine.file).stem
            size = sum(path.stat().st_size for path in directory.iterdir() if path.stem == stem)
            yield engine.file, size, _boundaries(engine.load(directory), samples)


def _share(times: Times, others: Times) -> float:
    return float(np.mean(times == others))


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    rows = [
        [
            graph["recipe"],
            f"`{graph['format']}`",
            f"`{graph['graph']}`",
            f"{graph['size_bytes'] / 1e6:.1f} MB",
            f"{graph['pytorch']:.2%}".replace("%", " %"),
            f"{graph['float']:.2%}".replace("%", " %"),
        ]
        for graph in figures["graphs"]
    ]
    machine, versions = figures["machine"], figures["machine"]["versions"]
    caption = (
        f"Share of {figures['boundaries']} boundaries in {figures['utterances']} utterances that equal those of "
        "the same model in PyTorch, and of the float model in PyTorch. Measured by `python "
        f"benchmarks/exported_aligner_table.py` on {machine['processor']}, onnxruntime {versions['onnxruntime']}, "
        f"openvino {versions['openvino']}, executorch {versions['executorch']}, torch {versions['torch']}, "
        f"transformers {versions['transformers']}."
    )
    header = ["recipe", "format", "graph", "size", "as PyTorch", "as float PyTorch"]
    return f"{format_table(header, rows)}\n\n{caption}"


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(__doc__, measure, FIGURES, [(PAGE, "exported_aligner", table)])


if __name__ == "__main__":
    sys.exit(main())
