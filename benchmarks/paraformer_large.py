"""Paraformer-large in int8 and int4: Sottovoce's, against FunASR's ONNX int8 in onnxruntime and FunASR in float32.

``python benchmarks/paraformer_large.py [--json FILE] [--threads N] [--work DIRECTORY] [--quick]``

The model has the real configuration and random weights: everything but accuracy is that of the real one. Each path runs
in a process of its own. The paths take turns on every input, so a machine whose speed drifts is as unfair to one as to
the other; compare ratios, not milliseconds. Times leave the audio front end out, which all paths share.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from workers import HERE, Worker, machine, measured, megabytes, note, take_turns

PEER, INT8, FLOAT = "FunASR ONNX int8", "Sottovoce int8", "FunASR float32"
PRODUCTS = "int8 products alone"
"""The linear layers of Sottovoce's int8 model and nothing else."""
WEIGHT, INT4, ONNX = "Sottovoce int8-weight", "Sottovoce int4", "Sottovoce ONNX int8"
RECIPES: dict[str, tuple[str, str | None]] = {
    INT8: ("large-int8", None),
    WEIGHT: ("large-int8-weight", None),
    # The weights are random, so samples would calibrate nothing: they are rounded to nearest, in int4's own layout.
    INT4: ("large-int4", "steps: [{step: quantize, bits: 4, group_size: auto, method: round_to_nearest}]"),
}
"""Folder of each compressed model, and the content of its recipe; ``None`` is the preset of that name."""
PATHS = {FLOAT: "funasr", PRODUCTS: "products"}
"""Names of the ways in which ``paths.py`` runs a model in PyTorch, where that is not ``torch``."""
RAGGED = (10.0, 9.5, 9.0, 8.5, 8.0, 7.5, 7.0, 6.5)
INPUTS: dict[str, tuple[tuple[float, ...], int]] = {
    "5 s": ((5.0,), 21),
    "20 s": ((20.0,), 15),
    "60 s": ((60.0,), 7),
    "8 clips of 6.5 to 10 s": (RAGGED, 7),
}
"""Seconds of each clip in the batch, and how often it is run."""
LIBRARIES = ("sottovoce", "torch", "funasr", "onnxruntime")


def prepare(work: Path, threads: int) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write the model, compress it, export the peer; what is in ``work`` already is not made again.

    Returns:
        The weights of each path, and what making them took.
    """
    costs: dict[str, Any] = {}
    large, peer, onnx = work / "large", work / "onnx", work / "onnx-ours"
    if not (large / "model.safetensors").is_file():
        note("writing the model")
        measured([sys.executable, str(HERE / "large_model.py"), str(large)], threads)
    for path, (folder, content) in RECIPES.items():
        if not (work / folder / "compression.json").is_file():
            costs[path] = _compress(large, work / folder, content, threads)
    if not (onnx / "model_quant.onnx").is_file():
        note("exporting it by Sottovoce")
        command = ["export", str(work / RECIPES[INT8][0]), "--format", "onnx", "--output", str(onnx), "--json"]
        costs[ONNX] = measured([sys.executable, "-m", "sottovoce", *command], threads)
    if not (peer / "model_quant.onnx").is_file():
        note("exporting it by FunASR: minutes")
        peer.mkdir(exist_ok=True)
        costs[PEER] = measured([sys.executable, str(HERE / "paths.py"), "export", str(large), str(peer)], threads)
    compressed = {path: work / folder / "model.safetensors" for path, (folder, _) in RECIPES.items()}
    weights = {
        PEER: peer / "model_quant.onnx",
        **compressed,
        PRODUCTS: compressed[INT8],
        ONNX: onnx / "model_quant.onnx",
        FLOAT: large / "model.safetensors",
    }
    return weights, costs


def _compress(model: Path, output: Path, content: str | None, threads: int) -> dict[str, float]:
    """Compress by the preset that the folder is named after, or by a recipe of its own."""
    recipe = output.name.removeprefix("large-")
    note(f"compressing it: {recipe}")
    if content is not None:
        path = output.with_suffix(".yaml")
        path.write_text(content, encoding="utf-8")
        recipe = str(path)
    command = ["compress", str(model), "--recipe", recipe, "--output", str(output), "--json"]
    return measured([sys.executable, "-m", "sottovoce", *command], threads)


def compare(workers: dict[str, Worker], quick: bool) -> dict[str, dict[str, Any]]:
    """Let the paths take turns on every input, and return the times of every path by input."""
    results: dict[str, dict[str, Any]] = {}
    for name, (seconds, repetitions) in INPUTS.items():
        note(f"running {name}")
        results[name] = take_turns(workers, PEER, 3 if quick else repetitions, {"seconds": seconds})
    return results


def run(work: Path, threads: int, quick: bool) -> dict[str, Any]:
    """Measure everything, and return the object that ``--json`` writes."""
    weights, costs = prepare(work, threads)
    workers = {}
    for path, file in weights.items():
        note(f"loading {path}")
        workers[path] = (
            Worker("paths.py", "onnxruntime", file, threads)
            if path in (PEER, ONNX)
            else Worker("paths.py", PATHS.get(path, "torch"), file.parent, threads)
        )
    load = [os.getloadavg()[0]]
    inputs = compare(workers, quick)
    load.append(os.getloadavg()[0])
    for worker in workers.values():
        worker.close()
    paths = {
        path: {"size_bytes": file.stat().st_size, "load": workers[path].loaded, "make": costs.get(path)}
        for path, file in weights.items()
    }
    # Threads that wait for one another lose more to other work on the machine than the ratios can bear.
    return {"machine": {**machine(threads, LIBRARIES), "load_average": load}, "paths": paths, "inputs": inputs}


def table(result: dict[str, Any]) -> str:
    """Return the result as a table."""
    paths = list(result["paths"])
    rows = [["", *paths]]
    for name, runs in result["inputs"].items():
        cells = [f"{runs[path]['seconds'] * 1e3:.0f} ms ({runs[path]['ratio']:.2f})" for path in paths]
        rows.append([f"{name} (ratio to the peer)", *cells])
    facts = result["paths"]
    last = list(result["inputs"].values())[-1]
    rows.append(["size on disk", *(megabytes(facts[path]["size_bytes"]) for path in paths)])
    rows.append(["import", *(f"{facts[path]['load']['import_seconds']:.1f} s" for path in paths)])
    rows.append(["load", *(f"{facts[path]['load']['load_seconds']:.1f} s" for path in paths)])
    rows.append(["peak memory, loaded", *(megabytes(facts[path]["load"]["peak_memory_bytes"]) for path in paths)])
    rows.append(["peak memory, all inputs", *(megabytes(last[path]["peak_memory_bytes"]) for path in paths)])
    costs = [facts[path]["make"] for path in paths]
    rows.append(["compress or export", *(f"{cost['seconds']:.0f} s" if cost else "" for cost in costs)])
    rows.append(["its peak memory", *(megabytes(cost["peak_memory_bytes"]) if cost else "" for cost in costs)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="directory that keeps the models; what it holds is not made again")
    parser.add_argument("--quick", action="store_true", help="3 repetitions")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        result = run(work, given.threads, given.quick)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
