"""Paraformer-large with half of its feed-forward units, in int8, against int8 alone.

``python benchmarks/pruned_large.py [--json FILE] [--threads N] [--work DIRECTORY] [--quick]``

The model has the real configuration and random weights: everything but accuracy is that of the real one. Each path runs
in a process of its own, and they take turns on every input, as in ``paraformer_large.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from captions import cost, measured_by, megabytes, ratios_to, time_and_ratio
from clips import write_clips
from markdown_tables import format_table
from workers import HERE, Worker, machine, measured, note, take_turns

PEER, PRUNED = "`int8`", "half of the hidden units, then `int8`, floats in 16 bits"
INPUTS = {"5 s": (5.0, 21), "20 s": (20.0, 15), "60 s": (60.0, 7)}
"""Seconds of the clip, and how often it is run."""
RECIPE = {"steps": [{"step": "prune_width", "keep": 0.5}, {"step": "quantize", "method": "squant"}, {"step": "cast"}]}
CLIPS, CLIP_SECONDS = 64, 10.0
"""The decoder has about four rows a second, and the fit of its 1024 units needs as many at least."""
LIBRARIES = ("sottovoce", "torch", "funasr")


def prepare(work: Path, threads: int) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write the model and compress it both ways; what is in ``work`` already is not made again.

    Returns:
        The directory of each path, and what making them took.
    """
    large, recipe = work / "large", work / "pruned-int8.json"
    if not (large / "model.safetensors").is_file():
        note("writing the model")
        measured([sys.executable, str(HERE / "large_model.py"), str(large)], threads)
    recipe.write_text(json.dumps(RECIPE), encoding="utf-8")
    options = ["--data", str(write_clips(work / "speech", CLIPS, CLIP_SECONDS))]
    models = {PEER: work / "large-int8", PRUNED: work / "large-pruned-int8"}
    costs: dict[str, Any] = {}
    for path, arguments in ((PEER, ["int8"]), (PRUNED, [str(recipe), *options])):
        if not (models[path] / "compression.json").is_file():
            note(f"compressing it: {path}")
            command = ["compress", str(large), "--output", str(models[path]), "--json", "--recipe", *arguments]
            costs[path] = measured([sys.executable, "-m", "sottovoce", *command], threads)
    return models, costs


def run(work: Path, threads: int, quick: bool) -> dict[str, Any]:
    """Measure everything, and return the object that ``--json`` writes."""
    models, costs = prepare(work, threads)
    workers = {path: Worker("paths.py", "torch", model, threads) for path, model in models.items()}
    load = [os.getloadavg()[0]]
    inputs = {}
    for name, (seconds, rounds) in INPUTS.items():
        note(f"running {name}")
        inputs[name] = take_turns(workers, PEER, 3 if quick else rounds, {"seconds": (seconds,)})
    load.append(os.getloadavg()[0])
    for worker in workers.values():
        worker.close()
    sizes = {path: (model / "model.safetensors").stat().st_size for path, model in models.items()}
    paths = {path: {"size_bytes": sizes[path], "make": costs.get(path)} for path in models}
    steps = json.loads((models[PRUNED] / "compression.json").read_text(encoding="utf-8"))["steps"]
    pruning = {"seconds": steps[0]["seconds"], "timing": steps[0]["timing"], "parts": steps[0]["details"]["parts"]}
    return {
        "machine": {**machine(threads, LIBRARIES), "load_average": load},
        "paths": paths,
        "inputs": inputs,
        "pruning": pruning,
        "calibration": {"clips": CLIPS, "seconds": CLIP_SECONDS},
    }


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    paths, inputs, pruning = figures["paths"], figures["inputs"], figures["pruning"]
    rows = [[name, *(time_and_ratio(runs[path], "ms") for path in paths)] for name, runs in inputs.items()]
    *_, last = inputs.values()
    rows += [
        ["on disk", *(megabytes(path["size_bytes"]) for path in paths.values())],
        ["peak memory, all of these inputs", *(megabytes(last[path]["peak_memory_bytes"]) for path in paths)],
        ["compression: time, peak memory", *(cost(path["make"]) for path in paths.values())],
    ]
    parts = "; ".join(
        f"{part['layers']} layers of the {name} keep {part['kept']} of {part['before']} units"
        for name, part in pruning["parts"].items()
    )
    ratios = ratios_to(PEER, [run for runs in inputs.values() for run in runs.values()])
    caption = f"Pruning takes {pruning['seconds']:.0f} s of the compression: {parts}."
    return (
        f"{format_table(['', *paths], rows)}\n\n{ratios} {caption} {measured_by('pruned_large.py', figures['machine'])}"
    )


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
