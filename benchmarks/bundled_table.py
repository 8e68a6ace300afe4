"""Measures the bundled Paraformer and aligner under every preset, and writes the tables of them.

README.md has the summary, docs/benchmarks.md the whole.

`python benchmarks/bundled_table.py` measures, keeps the figures as JSON, and writes the table from it; with `--write`
it writes the table from the JSON that is there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from sottovoce.recipe.presets import PRESETS
from sottovoce.runtime.backends.int8_engine import engine
from table_script import run

ROOT = Path(__file__).parents[1]
MODELS, DATA = ROOT / "examples" / "models", ROOT / "examples" / "data" / "mandarin-commands"
README, BENCHMARKS = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "bundled.json"
PARAFORMER, ALIGNER = "tiny-paraformer", "tiny-aligner"
KEPT = ("size_bytes", "cer", "token_agreement", "boundary_shift_ms", "boundary_agreement", "boundary_shift_max_ms")


def measure() -> dict[str, Any]:
    """Return the figures of both models as they are, under every preset, and exported to ONNX."""
    figures: dict[str, Any] = {"int8 engine": engine()}
    test = sottovoce.read_samples(DATA / "test.jsonl")
    for name in (PARAFORMER, ALIGNER):
        base = sottovoce.load(MODELS / name)
        columns: dict[str, Any] = {"float32": {}}
        for preset, recipe in tqdm(PRESETS.items(), name):
            model = sottovoce.load(MODELS / name)
            sottovoce.compress(model, recipe, DATA / "calibration.jsonl" if recipe.needs_samples else None)
            report = sottovoce.evaluate(model, test, base)
            metrics = {key: metric for key, metric in report.metrics.items() if key in KEPT}
            columns[preset] = {key: _value(metric) for key, metric in metrics.items()}
            columns["float32"] = {key: {"value": metric.baseline} for key, metric in metrics.items()}
            figures["machine"], figures["utterances"] = dict(report.machine), report.samples["count"]
        figures[name] = columns
    half = sottovoce.load(MODELS / ALIGNER, dtype="bfloat16")
    rounded = sottovoce.evaluate(half, test, sottovoce.load(MODELS / ALIGNER))
    figures["bfloat16"] = _value(rounded.metrics["boundary_agreement"])
    with tempfile.TemporaryDirectory() as folder:
        figures["onnx"] = _onnx(Path(folder) / "onnx")
    return figures


def _value(metric: sottovoce.Metric) -> dict[str, Any]:
    return {"value": metric.value, "details": dict(metric.details)}


def _onnx(folder: Path) -> dict[str, Any]:
    """Measure the exported Paraformer in sherpa-onnx."""
    import jiwer
    import sherpa_onnx
    import soundfile

    sottovoce.export(MODELS / PARAFORMER, "onnx", folder)
    test = sottovoce.read_samples(DATA / "test.jsonl")
    columns = {}
    for name in ("model", "model_quant"):
        recognizer = sherpa_onnx.OfflineRecognizer.from_paraformer(
            paraformer=str(folder / f"{name}.onnx"), tokens=str(folder / "tokens.txt"), num_threads=2
        )
        texts = []
        for sample in test:
            stream = recognizer.create_stream()
            samples, rate = soundfile.read(sample.audio, dtype="float32")
            stream.accept_waveform(rate, samples)
            recognizer.decode_stream(stream)
            texts.append(stream.result.text.replace(" ", ""))
        rate = 100 * jiwer.cer([sample.text for sample in test], texts)
        columns[name] = {"cer": rate, "size_bytes": (folder / f"{name}.onnx").stat().st_size}
    return columns


def summary(figures: dict[str, Any]) -> str:
    """Return the Markdown of the short table: a row for each recipe, and the machine below."""
    columns = (
        (PARAFORMER, "size_bytes", "{:.1f} MB", 1e-6),
        (PARAFORMER, "cer", "{:.2f} %", 1.0),
        (ALIGNER, "size_bytes", "{:.1f} MB", 1e-6),
        (ALIGNER, "boundary_shift_ms", "{:.1f} ms", 1.0),
    )
    rows = [
        [title, *(form.format(scale * figures[model][name][key]["value"]) for model, key, form, scale in columns)]
        for name, title in {"float32": "float32", **{preset: f"`{preset}`" for preset in PRESETS}}.items()
    ]
    header = ["recipe", "Paraformer", "character error rate", "aligner", "boundary shift"]
    return f"{format_table(header, rows)}\n\nMeasured by `python benchmarks/bundled_table.py` on {_machine(figures)}."


def _machine(figures: dict[str, Any]) -> str:
    machine, versions = figures["machine"], figures["machine"]["versions"]
    cores = f"{machine['threads']} of {machine['cores']} cores"
    return f"{machine['processor']}, {cores}, int8 by `{figures['int8 engine']}`, torch {versions['torch']}"


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    presets = list(PRESETS)
    count, heard, aligned = figures["utterances"], figures[PARAFORMER], figures[ALIGNER]

    def row(title: str, columns: dict[str, Any], key: str, form: str, scale: float = 1.0) -> list[str]:
        cells = [columns[name].get(key, {}).get("value") for name in ("float32", *presets)]
        return [title, *("" if cell is None else form.format(cell * scale) for cell in cells)]

    same = [heard[preset]["token_agreement"]["details"].get("identical") for preset in presets]
    agreement = row("boundaries identical to float32's", aligned, "boundary_agreement", "{:.2f} %")
    shift = row("largest shift of a boundary", aligned, "boundary_shift_max_ms", "{:.0f} ms")
    agreement[1] = shift[1] = ""
    rows = [
        row("Paraformer: weights", heard, "size_bytes", "{:.1f} MB", 1e-6),
        row("character error rate", heard, "cer", "{:.2f} %"),
        ["utterances with the same text", "", *(f"{number} of {count}" for number in same)],
        row("Aligner: weights", aligned, "size_bytes", "{:.1f} MB", 1e-6),
        row("boundary shift from the true times", aligned, "boundary_shift_ms", "{:.1f} ms"),
        agreement,
        shift,
    ]
    onnx, versions = figures["onnx"], figures["machine"]["versions"]
    caption = (
        f"Rounding the aligner to bfloat16 alone keeps {figures['bfloat16']['value']:.2f} % of the boundaries. Under "
        f"sherpa-onnx the exported Paraformer has {onnx['model']['cer']:.2f} % in float "
        f"({onnx['model']['size_bytes'] / 1e6:.1f} MB) and {onnx['model_quant']['cer']:.2f} % in int8 "
        f"({onnx['model_quant']['size_bytes'] / 1e6:.1f} MB). Measured by `python benchmarks/bundled_table.py` on "
        f"{_machine(figures)}, FunASR {versions['funasr']}, transformers {versions['transformers']}."
    )
    return f"{format_table(['', 'float32', *(f'`{name}`' for name in presets)], rows)}\n\n{caption}"


def main() -> int:
    """Measure where it was not said otherwise, and write the tables."""
    return run(__doc__, measure, FIGURES, [(README, "summary", summary), (BENCHMARKS, "bundled", table)])


if __name__ == "__main__":
    sys.exit(main())
