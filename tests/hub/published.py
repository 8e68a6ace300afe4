"""A compressed toy to publish, made without any model library."""

from __future__ import annotations

import json
from pathlib import Path

import sottovoce
from core.toy import LETTERS, make_host, make_model
from sottovoce import read_samples
from sottovoce.entrypoints.record import record


def make_small(directory: Path, recipe: str = "int8", *, seed: int = 0) -> Path:
    """Compress a toy to ``directory``, its licence and its figures included."""
    host = make_host()
    source = directory.parent / f".toy-{seed}"
    if not source.exists():
        make_model(source, seed=seed)
        (source / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Toy\n", encoding="utf-8")
        (source / "LICENSE").write_text("Apache License 2.0\n", encoding="utf-8")
        lines = [json.dumps({"key": str(number), "target": LETTERS[number:]}) for number in range(4)]
        (source / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    model = sottovoce.load(source, host=host)
    sottovoce.compress(model, recipe, host=host)
    sottovoce.save(model, directory, host=host)
    record(sottovoce.evaluate(directory, read_samples(source / "test.jsonl"), source, host=host), directory)
    return directory
