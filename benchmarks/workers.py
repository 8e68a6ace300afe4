"""Paths that are compared: each in a process of its own, taking turns; and what the numbers were measured with."""

from __future__ import annotations

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
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
PAUSE = 0.05
"""Seconds between turns, in which the last one's threads go to sleep."""


class Worker:
    """A path's process."""

    def __init__(
        self, script: str, kind: str, model: Path, threads: int, variables: dict[str, str] | None = None
    ) -> None:
        """Start ``script`` for one path, with environment variables of its own; wait until the model is loaded."""
        command = [sys.executable, str(HERE / script), kind, str(model), "--threads", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **(variables or {})}
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

    def run(self, **request: Any) -> dict[str, Any]:
        """Have one request answered."""
        if self._process.stdin is None:
            raise RuntimeError("the path has no input")
        print(json.dumps(request), file=self._process.stdin, flush=True)
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


def summarized(runs: list[dict[str, Any]], peers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the times of a path in all rounds, and their ratios to the peer's.

    The two times of a round lie together, so the machine's drift is out of their ratio.

    Returns:
        The last answer, with ``seconds``, the median; ``fastest_seconds``; ``ratios`` of every round, and their median
        ``ratio``.
    """
    ratios = [run["seconds"] / peer["seconds"] for run, peer in zip(runs, peers, strict=True)]
    return {
        **runs[-1],
        "seconds": statistics.median(run["seconds"] for run in runs),
        "fastest_seconds": min(run["seconds"] for run in runs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def take_turns(workers: dict[str, Worker], peer: str, rounds: int, request: dict[str, Any]) -> dict[str, Any]:
    """Let the paths take turns on one request, and return what :func:`summarized` says of every path.

    The first round is not counted: memory is taken and kernels are made in it.
    """
    answers: dict[str, list[dict[str, Any]]] = {path: [] for path in workers}
    for _ in range(rounds + 1):
        for path, worker in workers.items():
            time.sleep(PAUSE)
            answers[path].append(worker.run(**request))
    return {path: summarized(runs[1:], answers[peer][1:]) for path, runs in answers.items()}


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


def machine(threads: int, libraries: tuple[str, ...]) -> dict[str, Any]:
    """Return the machine and library versions of the measurement."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "processor": facts.get("model name", platform.processor()),
        "family": f"{facts.get('cpu family')}/{facts.get('model')}",
        "flags": [flag for flag in FLAGS if flag in facts.get("flags", "").split()],
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in libraries}},
    }


def megabytes(count: int) -> str:
    """Format a size in MB."""
    return f"{count / 1e6:.0f} MB"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def note(message: str) -> None:
    """Say how far it is."""
    print(message, file=sys.stderr, flush=True)
