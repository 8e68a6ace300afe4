"""The bundled aligner, compressed and exported: shared by the tests of its graphs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import sottovoce
from sottovoce import Model, Sample
from sottovoce_forced_aligner.inference import predict

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-aligner"
DATA = ROOT / "examples" / "data" / "mandarin-commands"
STEPS: dict[str, list[dict[str, Any]]] = {
    "float": [],
    "int8": [{"step": "quantize", "embeddings": "int8"}],
    "int4": [{"step": "quantize", "method": "hqq", "bits": 4, "embeddings": "int8"}],
    "pruned": [{"step": "prune_width", "keep": 0.75}, {"step": "prune_layers", "keep": 3}],
}


def utterances(count: int) -> list[Sample]:
    """Samples of different lengths with their audio in memory."""
    samples = list(sottovoce.read_samples(DATA / "test.jsonl"))[:count]
    return [dataclasses.replace(sample, audio=sottovoce.read_audio(sample.audio)) for sample in samples if sample.audio]


def compressed(name: str) -> Model:
    """The bundled aligner after the steps of a name."""
    model = sottovoce.load(TRAINED)
    if STEPS[name]:
        calibration = sottovoce.read_samples(DATA / "calibration.jsonl").choose(8)
        sottovoce.compress(model, {"steps": STEPS[name]}, calibration if name == "pruned" else None)
    return model


def boundaries(predictions: list[Any]) -> Any:
    """All starts and ends of words, in seconds."""
    return np.array([time for prediction in predictions for pair in prediction.timestamps for time in pair])


def own_boundaries(model: Model, samples: list[Sample]) -> Any:
    """Those that the family's own prediction finds in PyTorch."""
    return boundaries([predict(model, sample) for sample in samples])
