"""Measures the boundaries that `int8` and bfloat16 keep of the bundled aligner's, on every engine that runs here.

`python benchmarks/aligner_fidelity.py` measures, keeps the figures as JSON, and writes the table in docs/benchmarks.md;
`--json FILE` keeps them in another file and writes no table, `--write` writes the table from the last figures.

Every engine runs in a process of its own, since libraries read their settings once. The processes differ in the
instructions that oneDNN may use and in the engine of int8 products. The last rows have PyTorch believe that the CPU has
no VNNI instructions: int8 then runs as on an older CPU, with 7 bits for an input.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_tables import format_table, write_section

ROOT = Path(__file__).parents[1]
MODEL, DATA = ROOT / "examples" / "models" / "tiny-aligner", ROOT / "examples" / "data" / "mandarin-commands"
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "aligner_fidelity.json"
ISA, ENGINE, NO_VNNI = "ONEDNN_MAX_CPU_ISA", "SOTTOVOCE_INT8_ENGINE", "NO_VNNI"
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "all instructions": {},
    "oneDNN up to AVX512-VNNI": {ISA: "AVX512_CORE_VNNI"},
    "oneDNN up to AVX512": {ISA: "AVX512_CORE"},
    "oneDNN up to AVX2": {ISA: "AVX2"},
    "PyTorch's own dynamic quantization": {ENGINE: "linear_dynamic"},
    "float products": {ENGINE: "float"},
    "no VNNI, oneDNN up to AVX512": {NO_VNNI: "1", ISA: "AVX512_CORE"},
    "no VNNI, oneDNN up to AVX2": {NO_VNNI: "1", ISA: "AVX2"},
}
"""Environment of every process."""


def measure() -> dict[str, Any]:
    """Return the figures of all engines, and the machine."""
    environment = {name: value for name, value in os.environ.items() if name not in (ISA, ENGINE, NO_VNNI)}
    rows: dict[str, Any] = {}
    for name, settings in SETTINGS.items():
        command = [sys.executable, __file__, "--worker"]
        done = subprocess.run(command, env={**environment, **settings}, stdout=subprocess.PIPE, check=True)
        rows[name] = json.loads(done.stdout)
        print(
            f"{name}: {rows[name]['bfloat16']:.2f} % in bfloat16, {rows[name]['int8']:.2f} % in int8", file=sys.stderr
        )
    machine = [row.pop("machine") for row in rows.values()][0]
    return {"machine": machine, "engines": rows}


def measure_here() -> dict[str, Any]:
    """Return the figures of this process."""
    import sottovoce
    from sottovoce.runtime.backends import instructions
    from sottovoce.runtime.backends.int8_engine import engine

    warnings.simplefilter("ignore")
    logging.getLogger("sottovoce").setLevel(logging.ERROR)
    if os.environ.get(NO_VNNI):
        instructions.vnni = lambda: False  # type: ignore[assignment]
    test, base = sottovoce.read_samples(DATA / "test.jsonl"), sottovoce.load(MODEL)
    half, compressed = sottovoce.load(MODEL, dtype="bfloat16"), sottovoce.load(MODEL)
    sottovoce.compress(compressed, "int8")
    reports = {"bfloat16": half, "int8": compressed}
    evaluated = {name: sottovoce.evaluate(model, test, base) for name, model in reports.items()}
    metrics = {name: report.metrics for name, report in evaluated.items()}
    return {
        "engine": engine(),
        **{name: metric["boundary_agreement"].value for name, metric in metrics.items()},
        "int8 size_bytes": metrics["int8"]["size_bytes"].value,
        "machine": dict(evaluated["int8"].machine),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    rows = [
        [name, f"`{row['engine']}`", f"{row['bfloat16']:.2f} %", f"{row['int8']:.2f} %"]
        for name, row in figures["engines"].items()
    ]
    machine = figures["machine"]
    size = next(iter(figures["engines"].values()))["int8 size_bytes"]
    caption = (
        f"Boundaries of the bundled aligner that are identical to float32's, on the test utterances. `int8` has "
        f"{size / 1e6:.2f} MB of weights. Measured by `python benchmarks/aligner_fidelity.py` on "
        f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores, "
        f"torch {machine['versions']['torch']}, transformers {machine['versions']['transformers']}."
    )
    return f"{format_table(['instructions', 'int8 runs by', 'bfloat16', '`int8`'], rows)}\n\n{caption}"


def main() -> int:
    """Measure where it was not said otherwise, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures; the table stays as it is")
    parser.add_argument("--write", action="store_true", help="write the table from the figures that are there")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(measure_here()))
        return 0
    if not given.write:
        path = given.json or FIGURES
        path.write_text(json.dumps(measure(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if given.json is None:
        write_section(BENCHMARKS, "fidelity", table(json.loads(FIGURES.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
