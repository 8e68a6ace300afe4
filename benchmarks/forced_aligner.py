"""Qwen3-ForcedAligner-0.6B compressed by Sottovoce, against the same model in bfloat16 under plain transformers.

``python benchmarks/forced_aligner.py [--json FILE] [--work DIRECTORY] [--recipes "int8;int4"] [--clips N] ...``

The model has the real configuration and random weights: everything but accuracy is that of the real one. Each path runs
in a process of its own, and they take turns on one clip of 30 s with 240 tokens of text. Recipes that calibrate are
given clips of 20 s made from the bundled speech.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from clips import write_clips
from workers import HERE, Worker, machine, measured, megabytes, note, take_turns

PEER = "transformers bf16"
RECIPES: dict[str, dict[str, Any] | str] = {
    "int8": "int8",
    "int8, int8 embeddings": {"steps": [{"step": "quantize", "embeddings": "int8"}]},
    "int8-weight": "int8-weight",
    "fp8": "fp8",
    "int4": "int4",
}
REQUEST = {"seconds": 30.0, "words": 80}
"""A word is three tokens: itself and two markers."""
LIBRARIES = ("sottovoce", "torch", "transformers")
CLIP_SECONDS = 20.0


def prepare(work: Path, names: list[str], clips: int, threads: int) -> dict[str, Any]:
    """Write the model and compress it by every recipe; what is in ``work`` already is not made again."""
    large = work / "large"
    if not (large / "model.safetensors").is_file():
        note("writing the model")
        measured([sys.executable, str(HERE / "large_aligner.py"), str(large)], threads)
    data = write_clips(work / "speech", clips, CLIP_SECONDS)
    costs: dict[str, Any] = {}
    for name in names:
        small = directory_of(work, name)
        if (small / "compression.json").is_file():
            continue
        recipe = RECIPES[name]
        if not isinstance(recipe, str):
            path = work / f"{small.name}.json"
            path.write_text(json.dumps(recipe), encoding="utf-8")
            recipe = str(path)
        note(f"compressing it: {name}")
        command = [
            sys.executable,
            "-m",
            "sottovoce",
            "compress",
            str(large),
            "--recipe",
            recipe,
            "--output",
            str(small),
        ]
        costs[name] = measured([*command, *(["--data", str(data)] if name == "int4" else []), "--json"], threads)
    return costs


def directory_of(work: Path, name: str) -> Path:
    """Return the directory of a recipe's model."""
    return work / name.replace(", ", "-").replace(" ", "-")


def run(work: Path, names: list[str], clips: int, threads: int, rounds: int) -> dict[str, Any]:
    """Measure everything, and return the object that ``--json`` writes."""
    costs = prepare(work, names, clips, threads)
    workers = {PEER: Worker("aligner_paths.py", "transformers", work / "large", threads)}
    workers |= {name: Worker("aligner_paths.py", "sottovoce", directory_of(work, name), threads) for name in names}
    load = [os.getloadavg()[0]]
    note(f"running {rounds} rounds")
    times = take_turns(workers, PEER, rounds, REQUEST)
    load.append(os.getloadavg()[0])
    for worker in workers.values():
        worker.close()
    files = {path: work / "large" if path == PEER else directory_of(work, path) for path in workers}
    paths = {
        path: {
            **times[path],
            "size_bytes": (files[path] / "model.safetensors").stat().st_size,
            "load": workers[path].loaded,
            "make": costs.get(path),
        }
        for path in workers
    }
    return {"machine": {**machine(threads, LIBRARIES), "load_average": load}, "paths": paths}


def table(result: dict[str, Any]) -> str:
    """Return the result as a table."""
    rows = [["", "30 s clip", "ratio", "on disk", "load", "peak, load and run", "compress", "its peak"]]
    for name, path in result["paths"].items():
        cost = path["make"]
        rows.append(
            [
                name,
                f"{path['seconds']:.2f} s",
                f"{path['ratio']:.2f}",
                megabytes(path["size_bytes"]),
                f"{path['load']['load_seconds']:.1f} s",
                megabytes(path["peak_memory_bytes"]),
                f"{cost['seconds']:.0f} s" if cost else "",
                megabytes(cost["peak_memory_bytes"]) if cost else "",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="directory that keeps the models; what it holds is not made again")
    parser.add_argument("--recipes", default=";".join(RECIPES), help="which, with ; between them")
    parser.add_argument("--clips", type=int, default=32, help="calibration clips of 20 s")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        result = run(work, given.recipes.split(";"), given.clips, given.threads, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
