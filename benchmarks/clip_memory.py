"""Measures the peak memory of a process that hears all test utterances by the bundled Paraformer, float and int8.

`python benchmarks/clip_memory.py` measures, keeps the figures as JSON, and writes the table of docs/benchmarks.md from
it; with `--write` it writes the table from the JSON that is there. Both models take turns, each in a process of its
own, which also has Python, PyTorch and FunASR.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import sottovoce
from markdown_tables import format_table
from table_script import run
from workers import machine

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "models" / "tiny-paraformer"
TEST = ROOT / "examples" / "data" / "mandarin-commands" / "test.jsonl"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "clip_memory.json"
ROUNDS = 5
HEARD = """
import sys
import sottovoce
from sottovoce.system.machine import peak_memory
model = sottovoce.load(sys.argv[1])
for sample in sottovoce.read_samples(sys.argv[2]):
    model.architecture.runner.predict(model, sample)
print(peak_memory())
"""


def measure() -> dict[str, Any]:
    """Return the peaks of every round, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        model = sottovoce.load(MODEL)
        sottovoce.compress(model, "int8")
        paths = {"float32": MODEL, "`int8`": sottovoce.save(model, Path(folder) / "int8")}
        peaks: dict[str, list[int]] = {name: [] for name in paths}
        for _ in range(ROUNDS):
            for name, path in paths.items():
                command = [sys.executable, "-c", HEARD, str(path), str(TEST)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                peaks[name].append(int(done.stdout.split()[-1]))
    return {"machine": machine(1, ("torch", "funasr")), "peak_bytes": peaks}


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    rows = [
        [name, *(f"{value / 1e6:.0f} MB" for value in (statistics.median(peaks), min(peaks), max(peaks)))]
        for name, peaks in figures["peak_bytes"].items()
    ]
    about = figures["machine"]
    caption = (
        f"Peaks of {ROUNDS} rounds in which the two took turns, each in a process of its own. Measured by `python "
        f"benchmarks/clip_memory.py` on {about['processor']} ({', '.join(about['flags'])}), {about['threads']} of "
        f"{about['cores']} cores, torch {about['versions']['torch']}, FunASR {about['versions']['funasr']}."
    )
    return f"{format_table(['160 utterances', 'median', 'least', 'most'], rows)}\n\n{caption}"


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    return run(__doc__, measure, FIGURES, [(BENCHMARKS, "clip_memory", table)])


if __name__ == "__main__":
    sys.exit(main())
