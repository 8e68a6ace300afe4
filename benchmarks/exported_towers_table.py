"""Exports the towers of the bundled omni model under several recipes, runs them, and writes the table of the answers.

Accuracy and size alone: both are the same on every run.

`python benchmarks/exported_towers_table.py` measures, keeps the figures as JSON, and writes the table from it; with
`--write` it writes the table from the JSON that is there.
"""

from __future__ import annotations

import operator
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import sottovoce
from markdown_tables import format_table
from sottovoce import Model, Sample
from sottovoce.formats.float_layers import on_cpu
from sottovoce.system.machine import describe_machine
from sottovoce_omni_moe.architectures import OMNI_MOE
from sottovoce_omni_moe.tower_sessions import open_towers, run_in_model_
from sottovoce_omni_moe.towers_client import AUDIO, VISION, Towers
from table_script import run

ROOT = Path(__file__).parents[1]
OMNI, DATA = ROOT / "examples" / "models" / "tiny-omni", ROOT / "examples" / "data" / "omni-tasks"
PAGE = ROOT / "docs" / "how-to" / "export-omni.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "exported_towers.json"
TARGETS = OMNI_MOE.presets["int8-towers"]["steps"][0]["targets"][2:]
STEPS: dict[str, dict[str, Any]] = {
    "as trained": {},
    "int8": {"step": "quantize", "targets": TARGETS, "min_coverage": 0.01},
    "int8-weight": {"step": "quantize", "targets": TARGETS, "activations": "none", "min_coverage": 0.01},
    "int4": {"step": "quantize", "targets": TARGETS, "bits": 4, "method": "gptq", "min_coverage": 0.01},
}

Inputs = list[tuple[str, torch.Tensor, torch.Tensor]]
"""Inputs of towers: name, features, and lengths or grids."""


def measure() -> dict[str, Any]:
    """Return how many answers are PyTorch's with the towers in onnxruntime, and how much their features differ."""
    samples = [sample for sample in sottovoce.read_samples(DATA / "test.jsonl") if sample.modality != "text"]
    graphs = []
    for name, step in tqdm(STEPS.items(), "exported"):
        model = sottovoce.load(OMNI)
        if step:
            sottovoce.compress(model, {"steps": [step]}, DATA / "calibration.jsonl" if name == "int4" else None)
        with recording(model) as inputs:
            expected = answers(model, samples)
        with tempfile.TemporaryDirectory() as folder:
            directory = sottovoce.export(model, "onnx", Path(folder) / "exported")
            for quantized in (False, True)[: 2 if step else 1]:
                towers = open_towers(directory, quantized)
                shares = differences(model, towers, inputs)
                run_in_model_(model.native, towers)
                same = sum(map(operator.eq, answers(model, samples), expected))
                sizes = {tower: towers.path(tower).stat().st_size for tower in (AUDIO, VISION)}
                graphs.append({"recipe": name, "quantized": quantized, "sizes": sizes, "same": same, **shares})
    return {"machine": describe_machine(), "samples": len(samples), "graphs": graphs}


def answers(model: Model, samples: list[Sample]) -> list[tuple[str, ...]]:
    """Return the tokens of all answers."""
    return [tuple(model.architecture.runner.predict(model, sample).tokens) for sample in samples]


def _towers(model: Model) -> dict[str, Any]:
    inner = model.native.thinker.model
    return {AUDIO: inner.audio_tower, VISION: inner.visual}


@contextmanager
def recording(model: Model) -> Iterator[Inputs]:
    """Collect what the towers are given."""
    inputs: Inputs = []

    def hook(name: str) -> Any:
        def record(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            sizes = named["feature_lens" if name == AUDIO else "grid_thw"]
            inputs.append((name, arguments[0].float(), sizes))

        return record

    hooks = [tower.register_forward_pre_hook(hook(name), with_kwargs=True) for name, tower in _towers(model).items()]
    try:
        yield inputs
    finally:
        for handle in hooks:
            handle.remove()


@torch.no_grad()
def differences(model: Model, towers: Towers, inputs: Inputs) -> dict[str, float]:
    """Return the largest difference of each tower's features from those in PyTorch in float32, as a share."""
    exact = {name: on_cpu(tower) for name, tower in _towers(model).items()}
    shares = dict.fromkeys(exact, 0.0)
    for name, features, sizes in inputs:
        if name == AUDIO:
            expected = [exact[name](features, feature_lens=sizes).last_hidden_state]
            given = [towers.hear_frames(features.numpy(), sizes.tolist())]
        else:
            outputs = exact[name](features, grid_thw=sizes)
            expected = [outputs.pooler_output, *outputs.deepstack_features]
            given = towers.see(features.numpy(), sizes.tolist())
        for features, exact_features in zip(given, expected, strict=True):
            gap = (torch.from_numpy(features) - exact_features).abs().max() / exact_features.abs().max()
            shares[name] = max(shares[name], float(gap))
    return shares


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    rows = [
        [
            graph["recipe"],
            "`_quant.onnx`" if graph["quantized"] else "`.onnx`",
            *(f"{graph['sizes'][tower] / 1e6:.1f} MB" for tower in (AUDIO, VISION)),
            *(f"{graph[tower]:.1g}" for tower in (AUDIO, VISION)),
            str(graph["same"]),
        ]
        for graph in figures["graphs"]
    ]
    machine, versions = figures["machine"], figures["machine"]["versions"]
    caption = (
        "Differences are the largest of all features, as a share of the largest feature, from the same model's towers "
        "in PyTorch in float32. Answers are those that equal the same model's in PyTorch. Measured by `python "
        f"benchmarks/exported_towers_table.py` on {machine['processor']}, onnxruntime {versions['onnxruntime']}, "
        f"torch {versions['torch']}, transformers {versions['transformers']}."
    )
    count = figures["samples"]
    header = ["towers", "graphs", "audio", "vision", "audio differs", "vision differs", f"same answers of {count}"]
    return f"{format_table(header, rows)}\n\n{caption}"


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(__doc__, measure, FIGURES, [(PAGE, "exported_towers", table)])


if __name__ == "__main__":
    sys.exit(main())
