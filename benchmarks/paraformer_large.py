"""Paraformer-large in int8: Sottovoce in torch, against FunASR's ONNX int8 in onnxruntime and FunASR in float32.

``python benchmarks/paraformer_large.py [--json FILE] [--threads N] [--work DIRECTORY] [--quick]``

The model has the real configuration and random weights: everything but accuracy is that of the real one. Each path runs
in a process of its own. The paths take turns on every input, so a machine whose speed drifts is as unfair to one as to
the other; compare ratios, not milliseconds. Times leave the audio front end out, which all paths share.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEER, INT8 = "FunASR ONNX int8", "Sottovoce int8"
RAGGED = (10.0, 9.5, 9.0, 8.5, 8.0, 7.5, 7.0, 6.5)
INPUTS: dict[str, tuple[tuple[float, ...], int]] = {
    "5 s": ((5.0,), 21),
    "20 s": ((20.0,), 15),
    "60 s": ((60.0,), 7),
    "8 clips of 6.5 to 10 s": (RAGGED, 7),
}
"""Seconds of each clip in the batch, and how often it is run."""
LIBRARIES = ("sottovoce", "torch", "funasr", "onnxruntime")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
PAUSE = 0.05
"""Seconds between turns, in which the last one's threads go to sleep."""


class Worker:
    """A path's process."""

    def __init__(self, kind: str, model: Path, threads: int) -> None:
        """Start it, and wait until the model is loaded."""
        command = [sys.executable, str(HERE / "paths.py"), kind, str(model), "--threads", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env=environment,
        )
        self.loaded = self._answer()

    def run(self, seconds: tuple[float, ...]) -> dict[str, Any]:
        """Run a batch of clips of that many seconds each."""
        if self._process.stdin is None:
            raise RuntimeError("the path has no input")
        print(json.dumps({"seconds": seconds}), file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._messages.close()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._messages.seek(0)
            raise RuntimeError(f"a path ended:\n{self._messages.read().decode(errors='replace')[-2000:]}")
        return json.loads(line)  # type: ignore[no-any-return]


def prepare(work: Path, threads: int) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write the model, compress it, export the peer; what is in ``work`` already is not made again.

    Returns:
        The weights of each path, and what making them took.
    """
    made: dict[str, Any] = {}
    large, small, onnx = work / "large", work / "large-int8", work / "onnx"
    if not (large / "model.safetensors").is_file():
        _note("writing the model")
        measured([sys.executable, str(HERE / "large_model.py"), str(large)], threads)
    if not (small / "compression.json").is_file():
        _note("compressing it: sottovoce compress --recipe int8")
        command = ["compress", str(large), "--recipe", "int8", "--output", str(small), "--json"]
        made[INT8] = measured([sys.executable, "-m", "sottovoce", *command], threads)
    if not (onnx / "model_quant.onnx").is_file():
        _note("exporting it by FunASR: minutes")
        onnx.mkdir(exist_ok=True)
        made[PEER] = measured([sys.executable, str(HERE / "paths.py"), "export", str(large), str(onnx)], threads)
    weights = {
        PEER: onnx / "model_quant.onnx",
        INT8: small / "model.safetensors",
        "FunASR float32": large / "model.safetensors",
    }
    return weights, made


def _ratio(runs: list[dict[str, Any]], peers: list[dict[str, Any]]) -> float:
    """The two times of a round lie together in time, so the machine's drift is out of their ratio."""
    return statistics.median(one["seconds"] / peer["seconds"] for one, peer in zip(runs, peers, strict=True))


def measured(command: list[str], threads: int) -> dict[str, float]:
    """Run a command to its end.

    Returns:
        ``seconds``, and ``peak_memory_bytes`` of the process.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as messages:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            messages.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{messages.read().decode(errors='replace')[-2000:]}")
    return {"seconds": time.perf_counter() - begin, "peak_memory_bytes": usage.ru_maxrss * 1024}


def compare(workers: dict[str, Worker], quick: bool) -> dict[str, dict[str, Any]]:
    """Let the paths take turns on every input.

    Returns:
        For every input and path: median seconds, the ratio to the peer (the median of the rounds' ratios), and peak
        memory of the process until then.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, (seconds, repetitions) in INPUTS.items():
        _note(f"running {name}")
        answers: dict[str, list[dict[str, Any]]] = {path: [worker.run(seconds)] for path, worker in workers.items()}
        for _ in range(3 if quick else repetitions):
            for path, worker in workers.items():
                time.sleep(PAUSE)
                answers[path].append(worker.run(seconds))
        # The first run of an input is not counted: memory is taken and kernels are made in it.
        medians = {path: statistics.median(one["seconds"] for one in runs[1:]) for path, runs in answers.items()}
        found[name] = {
            path: {
                "seconds": medians[path],
                "fastest_seconds": min(one["seconds"] for one in runs),
                "ratio": _ratio(runs[1:], answers[PEER][1:]),
                "tokens": runs[-1]["tokens"],
                "peak_memory_bytes": runs[-1]["peak_memory_bytes"],
            }
            for path, runs in answers.items()
        }
    return found


def machine(threads: int) -> dict[str, Any]:
    """What the numbers were measured with."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "processor": facts.get("model name", platform.processor()),
        "family": f"{facts.get('cpu family')}/{facts.get('model')}",
        "flags": [flag for flag in FLAGS if flag in facts.get("flags", "").split()],
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
    }


def run(work: Path, threads: int, quick: bool) -> dict[str, Any]:
    """Everything, as the object that ``--json`` writes."""
    weights, made = prepare(work, threads)
    workers = {}
    for path, file in weights.items():
        _note(f"loading {path}")
        workers[path] = Worker("onnxruntime", file, threads) if path == PEER else Worker("torch", file.parent, threads)
    load = [os.getloadavg()[0]]
    inputs = compare(workers, quick)
    load.append(os.getloadavg()[0])
    for worker in workers.values():
        worker.close()
    paths = {
        path: {"size_bytes": file.stat().st_size, "load": workers[path].loaded, "make": made.get(path)}
        for path, file in weights.items()
    }
    # Threads that wait for one another lose more to other work on the machine than the ratios can bear.
    return {"machine": {**machine(threads), "load_average": load}, "paths": paths, "inputs": inputs}


def table(result: dict[str, Any]) -> str:
    """The result to read."""
    paths = list(result["paths"])
    rows = [["", *paths]]
    for name, found in result["inputs"].items():
        cells = [f"{found[path]['seconds'] * 1e3:.0f} ms ({found[path]['ratio']:.2f})" for path in paths]
        rows.append([f"{name} (ratio to the peer)", *cells])
    facts = result["paths"]
    last = list(result["inputs"].values())[-1]
    rows.append(["size on disk", *(_megabytes(facts[path]["size_bytes"]) for path in paths)])
    rows.append(["import", *(f"{facts[path]['load']['import_seconds']:.1f} s" for path in paths)])
    rows.append(["load", *(f"{facts[path]['load']['load_seconds']:.1f} s" for path in paths)])
    rows.append(["peak memory, loaded", *(_megabytes(facts[path]["load"]["peak_memory_bytes"]) for path in paths)])
    rows.append(["peak memory, all inputs", *(_megabytes(last[path]["peak_memory_bytes"]) for path in paths)])
    made = [facts[path]["make"] for path in paths]
    rows.append(["compress or export", *(f"{one['seconds']:.0f} s" if one else "" for one in made)])
    rows.append(["its peak memory", *(_megabytes(one["peak_memory_bytes"]) if one else "" for one in made)])
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


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _note(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
