"""What ``compression.json`` holds, for cards to be written from."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "ab" * 32

_MACHINE = {
    "processor": "Some CPU @ 3.1 GHz",
    "cores": 8,
    "threads": 2,
    "system": "Linux x86_64",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
}
_STEP = {
    "step": "quantize",
    "bits": 8,
    "type": "int",
    "symmetric": True,
    "activations": "dynamic",
    "method": "squant",
    "weight_range": "minmax",
}

QUANTIZED: dict[str, Any] = {
    "recipe": {"steps": [_STEP]},
    "architecture": "family",
    "source": {
        "name": "owner/base",
        "hub": "hf",
        "revision": COMMIT,
        "fingerprint": "f" * 64,
        "license": {"id": "apache-2.0", "name": None, "link": None},
        "languages": ["zh", "en"],
    },
    "steps": [
        {
            "step": _STEP,
            "targets": [
                {"name": "encoder.0.a", "parameters": 4000, "bits": 8.25, "snr_db": 44.1},
                {"name": "encoder.1.a", "parameters": 4000, "bits": 8.25, "snr_db": 41.7},
                {"name": "decoder.0.a", "parameters": 2000, "bits": 8.5, "snr_db": 47.3},
            ],
            "kept": [
                {"name": "head", "parameters": 500, "reason": "output layer"},
                {"name": "norm.0", "parameters": 20, "reason": "normalization"},
                {"name": "norm.1", "parameters": 30, "reason": "normalization"},
            ],
            "coverage": {
                "parameters": 10550,
                "compressed_parameters": 10000,
                "ratio": 0.947867,
                "parts": {
                    "encoder": {"parameters": 8050, "compressed_parameters": 8000},
                    "decoder": {"parameters": 2500, "compressed_parameters": 2000},
                },
            },
            "seconds": 1.5,
            "timing": {},
            "notes": ["the last layer was left: it is small"],
        }
    ],
    "coverage": {"parameters": 10550, "compressed_parameters": 10000, "parts": {}, "ratio": 0.947867},
    "size_bytes": {"before": 42200, "after": 12345},
    "seconds": 1.75,
    "peak_memory_bytes": 123_400_000,
    "versions": {"python": "3.11.7", "sottovoce": "0.1.0", "torch": "2.13.0"},
    "samples": None,
    "gate": None,
    "output": "int8",
    "card": {
        "pipeline_tag": "automatic-speech-recognition",
        "library_name": "funasr",
        "languages": ["zh"],
        "usage": 'load("{directory}", "{audio}")\n',
        "hub_usage": {"hf": 'load("{repository}", "{audio}")\n', "modelscope": 'fetch("{repository}", {{}})\n'},
        "serving": {"onnx": 'run("{directory}", "{audio}")\n'},
        "packages": ["funasr>=1.4"],
    },
    "evaluations": [
        {
            "model": "int8",
            "architecture": "family",
            "baseline": "owner/base",
            "date": "2026-11-20",
            "samples": {"name": "test.jsonl", "count": 160, "audio_seconds": 436.25, "sha256": DIGEST},
            "dataset": None,
            "machine": _MACHINE,
            "metrics": {
                "cer": {"value": 3.125, "unit": "%", "baseline": 2.5, "details": {"reference": 1600}},
                "token_agreement": {"value": 98.75, "unit": "%"},
                "size_bytes": {"value": 12345, "unit": "bytes", "baseline": 42200},
                "latency_ms": {"value": 17.625, "unit": "ms", "baseline": 15.875},
                "rtf": {"value": 0.0074, "unit": "", "baseline": 0.0061},
                "peak_memory_bytes": {"value": 971_000_000, "unit": "bytes", "baseline": 574_000_000},
            },
        }
    ],
    "files": {"config.yaml": "1" * 64, "model.safetensors": "2" * 64},
}

PRUNED: dict[str, Any] = {
    **QUANTIZED,
    "recipe": {"steps": [{"step": "prune_experts", "keep": 0.5, "saliency": "reap"}]},
    "steps": [
        {
            "step": {"step": "prune_experts", "keep": 0.5, "saliency": "reap"},
            "targets": [
                {"name": "thinker.layers.0.mlp.experts", "parameters": 100},
                {"name": "thinker.layers.1.mlp.experts", "parameters": 100},
            ],
            "kept": [],
            "coverage": None,
            "seconds": 2.0,
            "timing": {},
            "notes": [],
            "details": {
                "parts": {"thinker": {"experts": 8, "kept": 4, "saliency": "reap", "layers": 2}},
                "layers": {
                    "thinker.layers.0.mlp.experts": {
                        "experts": 8,
                        "kept": [0, 1, 2, 5],
                        "routed_share": {"all": 0.731, "audio": 0.9},
                        "damage": {"error": 0.0829, "norm_before": 1.0, "norm_after": 1.1, "held_out": True},
                    },
                    "thinker.layers.1.mlp.experts": {
                        "experts": 8,
                        "kept": [1, 4, 6, 7],
                        "routed_share": {"all": 0.95},
                        "damage": None,
                    },
                },
            },
        }
    ],
    "card": {"pipeline_tag": "any-to-any", "library_name": "transformers", "languages": ["en"]},
    "evaluations": [],
    "files": {"model.safetensors": "2" * 64, "saliency.png": "3" * 64},
}


def changed(form: dict[str, Any], **places: Any) -> dict[str, Any]:
    """A copy with other values; ``source__hub`` is the place ``hub`` in ``source``, a number one of a list."""
    made = copy.deepcopy(form)
    for place, value in places.items():
        *way, last = [int(key) if key.isdigit() else key for key in place.split("__")]
        inner: Any = made
        for key in way:
            inner = inner[key]
        inner[last] = value
    return made


def saved(directory: Path, form: dict[str, Any]) -> Path:
    """A model's directory that has this report."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in form["files"]:
        if "/" not in name:
            (directory / name).write_bytes(b"x" * 1000)
    (directory / "compression.json").write_text(json.dumps(form), encoding="utf-8")
    return directory


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text as a renderer understands them: rows of cells, headers first."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and found[-1] and token.level >= 4:
            found[-1][-1].append("".join(child.content for child in token.children or ()))
    return found
