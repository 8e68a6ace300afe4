"""Paraformer-large in int8 while other processes want the same cores, by how long waiting threads spin.

``python benchmarks/busy_machine.py [--json FILE] [--work DIRECTORY] [--rounds N] [--seconds N]``

PyTorch's threads meet at the end of every operator. GNU's OpenMP runtime has a thread that waits spin before it sleeps.
Where another process has its partner's core, it spins for nothing. ``GOMP_SPINCOUNT`` limits the spinning. Each setting
runs in a process of its own, and they take turns: first on a quiet machine, then beside as many busy processes as the
machine has cores. The peers are the runtime's own setting, and onnxruntime with the int8 graph of ``sottovoce export``.
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

from workers import HERE, Worker, machine, measured, note, take_turns

SETTINGS: dict[str, dict[str, str]] = {
    "the runtime's own": {},
    "spin 30000": {"GOMP_SPINCOUNT": "30000"},
    "spin 3000": {"GOMP_SPINCOUNT": "3000"},
    "spin 300": {"GOMP_SPINCOUNT": "300"},
    "no spin": {"OMP_WAIT_POLICY": "passive"},
}
BASE = next(iter(SETTINGS))
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
        note("busy")
        with busy(threads):
            beside = take_turns(workers, BASE, rounds, request)
    finally:
        for worker in workers.values():
            worker.close()
    slower = {name: beside[name]["seconds"] / quiet[name]["seconds"] for name in workers}
    return {
        "machine": machine(threads, LIBRARIES),
        "seconds_of_audio": seconds,
        "quiet": quiet,
        "busy": beside,
        "busy_to_quiet": slower,
    }


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
    for name, slower in results["busy_to_quiet"].items():
        quiet, beside = results["quiet"][name], results["busy"][name]
        print(
            f"{name:26} quiet {quiet['seconds'] * 1000:6.0f} ms ({quiet['ratio']:.2f})   "
            f"busy {beside['seconds'] * 1000:6.0f} ms   {slower:.1f} times as long"
        )


if __name__ == "__main__":
    main()
