"""Paraformer-large in int8 while other processes want the same cores.

``python benchmarks/busy_machine.py [--json FILE] [--work DIRECTORY] [--rounds N] [--seconds N]``

PyTorch's threads meet at the end of every operator. GNU's OpenMP runtime has a thread that waits spin before it sleeps.
Where another process has its partner's core, it spins for nothing. Sottovoce then runs fewer threads.
``GOMP_SPINCOUNT`` and ``OMP_WAIT_POLICY`` limit the spinning instead. Each setting runs in a process of its own, and
they take turns: first on a quiet machine, then beside one busy process, then beside as many as the machine has cores.
The peers are the runtime's own setting, and onnxruntime with the int8 graph of ``sottovoce export``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captions import measured_by, milliseconds, ratios_to, time_and_ratio
from markdown_tables import format_table
from workers import HERE, Worker, machine, measured, note, take_turns

FIXED = {"SOTTOVOCE_THREADS": "fixed"}
BASE = "fixed threads"
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    BASE: FIXED,
    "fixed, `GOMP_SPINCOUNT=3000`": {**FIXED, "GOMP_SPINCOUNT": "3000"},
    "fixed, `OMP_WAIT_POLICY=passive`": {**FIXED, "OMP_WAIT_POLICY": "passive"},
}
LIBRARIES = ("sottovoce", "torch", "funasr", "onnxruntime")


def prepare(work: Path, threads: int) -> dict[str, Path]:
    """Write the model, compress and export it; what is in ``work`` already is not made again."""
    large, small, onnx = work / "large", work / "large-int8", work / "onnx"
    sottovoce = [sys.executable, "-m", "sottovoce"]
    if not (large / "model.safetensors").is_file():
        note("writing the model")
        measured([sys.executable, str(HERE / "large_model.py"), str(large)], threads)
    if not (small / "compression.json").is_file():
        note("compressing it")
        measured([*sottovoce, "compress", str(large), "--recipe", "int8", "--output", str(small)], threads)
    if not (onnx / "model_quant.onnx").is_file():
        note("exporting it")
        measured([*sottovoce, "export", str(small), "--format", "onnx", "--output", str(onnx)], threads)
    return {"torch": small, "onnxruntime": onnx / "model_quant.onnx"}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep as many cores busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def run(work: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure everything, and return the object that ``--json`` writes."""
    threads = os.cpu_count() or 1
    models = prepare(work, threads)
    workers = {}
    for name, variables in SETTINGS.items():
        note(f"loading: {name}")
        workers[name] = Worker("paths.py", "torch", models["torch"], threads, variables)
    workers["onnxruntime"] = Worker("paths.py", "onnxruntime", models["onnxruntime"], threads)
    request = {"seconds": (seconds,)}
    try:
        note("quiet")
        quiet = take_turns(workers, BASE, rounds, request)
        beside = {}
        for processes in dict.fromkeys((1, threads)):
            note(f"beside {processes} busy")
            with busy(processes):
                beside[str(processes)] = take_turns(workers, BASE, rounds, request)
    finally:
        for worker in workers.values():
            worker.close()
    return {"machine": machine(threads, LIBRARIES), "seconds_of_audio": seconds, "quiet": quiet, "busy": beside}


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    quiet, beside = figures["quiet"], figures["busy"]
    plural = {count: "process" if count == "1" else "processes" for count in beside}
    rows = [
        [
            name,
            time_and_ratio(quiet[name], "ms"),
            *(
                f"{milliseconds(runs[name]['seconds'])}, {runs[name]['seconds'] / quiet[name]['seconds']:.1f} times"
                for runs in beside.values()
            ),
        ]
        for name in quiet
    ]
    head = ["int8", "quiet", *(f"beside {count} busy {plural[count]}" for count in beside)]
    caption = (
        f"{figures['seconds_of_audio']:g} s of audio. {ratios_to(BASE, list(quiet.values()))} "
        f'"Times" are those of the same setting on the quiet machine. '
        f"{measured_by('busy_machine.py', figures['machine'])}"
    )
    return f"{format_table(head, rows)}\n\n{caption}"


def main() -> None:
    """Measure, print a table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--work", type=Path, help="folder for the models; kept when given")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the audio")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        results = run(arguments.work or Path(temporary), arguments.rounds, arguments.seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
