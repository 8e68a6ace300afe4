"""Writes the tables of models of real size from the results of the scripts that measure them.

`python benchmarks/large_tables.py` prints them, and `--write` writes them into README.md and docs/benchmarks.md. The
results come from `paraformer_large.py`, `busy_machine.py`, `transcribe.py`, `forced_aligner.py`, `pruned_large.py` and
`omni_moe.py`, with `--json` into `results-committed/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from busy_machine import table as busy
from captions import cost, gigabytes, measured_by, megabytes, milliseconds, ratios_to, time_and_ratio
from markdown_tables import format_table, write_section
from paraformer_large import PRODUCTS
from pruned_large import table as pruned
from serving_table import table as serving
from transcription_table import table as transcription

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results-committed"
README, BENCHMARKS = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
REAL_LAYERS = 48
"""Thinker layers of Qwen3-Omni-30B-A3B."""
WORK = {
    "factors": "factors of second moments",
    "moments": "second moments",
    "passes": "passes over the weights",
    "carrying": "propagation of errors",
    "running": "running the layer",
    "errors": "errors in the report",
}
"""Parts of a layer's arithmetic, by their key in the results."""


def speed(figures: dict[str, Any]) -> str:
    """Return README's sentence on Paraformer-large."""
    runs = figures["inputs"]["20 s"]
    int8, full = (milliseconds(runs[path]["seconds"]) for path in ("Sottovoce int8", "FunASR float32"))
    return f"Paraformer-large's real configuration takes {int8} for 20 s of audio in `int8`, and {full} in float32."


def paraformer(figures: dict[str, Any]) -> str:
    """Return the table of Paraformer-large, and under it what it was measured on."""
    *_, last = figures["inputs"].values()
    # The products alone are not a model: they are made, loaded and stored as the int8 model that has them.
    paths = {path: facts for path, facts in figures["paths"].items() if path != PRODUCTS}
    others = [""] * (len(figures["paths"]) - len(paths))
    rows = [
        ["on disk", *(megabytes(path["size_bytes"]) for path in paths.values())],
        ["load, without imports", *(f"{path['load']['load_seconds']:.1f} s" for path in paths.values())],
        ["peak memory, loaded", *(megabytes(path["load"]["peak_memory_bytes"]) for path in paths.values())],
        ["peak memory, all of these inputs", *(megabytes(last[path]["peak_memory_bytes"]) for path in paths)],
        ["compression or export: time, peak memory", *(cost(path["make"]) for path in paths.values())],
    ]
    return _paraformer_table(figures, list(paths), [[*row, *others] for row in rows])


def times(figures: dict[str, Any]) -> str:
    """Return the table of Paraformer-large's times alone, and under it what they were measured on."""
    return _paraformer_table(figures, list(figures["paths"]), [])


def _paraformer_table(figures: dict[str, Any], paths: list[str], facts: list[list[str]]) -> str:
    """Return the times of the paths, with those that are no model in the last columns, and rows of facts."""
    inputs = figures["inputs"]
    columns = [*paths, *(path for path in figures["paths"] if path not in paths)]
    rows = [[name, *(time_and_ratio(runs[path], "ms") for path in columns)] for name, runs in inputs.items()]
    ratios = ratios_to(columns[0], [run for runs in inputs.values() for run in runs.values()])
    caption = f"{ratios} {measured_by('paraformer_large.py', figures['machine'])}"
    return f"{format_table(['', *columns], [*rows, *facts])}\n\n{caption}"


def aligner(figures: dict[str, Any]) -> str:
    """Return the table of the aligner, and under it what it was measured on."""
    paths = figures["paths"]
    rows = [
        ["on disk", *(megabytes(path["size_bytes"]) for path in paths.values())],
        ["the clip", *(time_and_ratio(path) for path in paths.values())],
        ["load, without imports", *(f"{path['load']['load_seconds']:.1f} s" for path in paths.values())],
        ["peak memory, load and run", *(megabytes(path["peak_memory_bytes"]) for path in paths.values())],
        ["compression: time, peak memory", *(cost(path["make"]) for path in paths.values())],
    ]
    ratios = ratios_to(next(iter(paths)), list(paths.values()))
    caption = f"{ratios} {measured_by('forced_aligner.py', figures['machine'])}"
    return f"{format_table(['', *paths], rows)}\n\n{caption}"


def omni(figures: dict[str, Any]) -> str:
    """Return the tables of Qwen3-Omni's layers, with what follows for all of them by calculation."""
    depths, bound = figures["layers"], figures["bound"]
    rows = [
        [
            "checkpoint before, after",
            *(
                f"{gigabytes(runs['model_bytes'])}, {gigabytes(runs['reap50-int4']['size_bytes'])}"
                for runs in depths.values()
            ),
        ],
        ["`reap50-int4`: time, peak memory", *(cost(runs["reap50-int4"]) for runs in depths.values())],
        [
            "from saved saliency, round to nearest, no samples",
            *(cost(runs["without samples"]) for runs in depths.values()),
        ],
    ]
    parts = sorted(WORK, key=lambda part: -bound[part])
    return "\n\n".join(
        (
            format_table(["", *(f"{depth} layers" for depth in depths)], rows),
            f"The conversations have {figures['tokens']} tokens. {measured_by('omni_moe.py', figures['machine'])}",
            _further_layers(figures),
            format_table(
                ["part of the arithmetic", "seconds per layer"], [[WORK[part], f"{bound[part]:.1f}"] for part in parts]
            ),
        )
    )


def _further_layers(figures: dict[str, Any]) -> str:
    """Return what one more layer costs, and what that makes of the real model's layers."""
    depths, bound = figures["layers"], figures["bound"]
    fewest, most = min(depths, key=int), max(depths, key=int)
    if fewest == most:
        return "One depth alone does not tell what a further layer costs."
    runs = depths[most]["reap50-int4"]

    def growth(before: float, after: float) -> float:
        return (after - before) / (int(most) - int(fewest))

    seconds = figures["per_layer"]["reap50-int4"]
    size = growth(depths[fewest]["model_bytes"], depths[most]["model_bytes"])
    small = growth(depths[fewest]["reap50-int4"]["size_bytes"], runs["size_bytes"])
    peaks = [depth["reap50-int4"]["peak_memory_bytes"] for depth in depths.values()]
    # Layers are streamed, so what grows with them is little, and may be less than what differs from run to run.
    memory = max(0.0, growth(depths[fewest]["reap50-int4"]["peak_memory_bytes"], runs["peak_memory_bytes"]))
    further = REAL_LAYERS - int(most)
    least = bound["arithmetic"] + bound["disk"]
    return (
        f"Each further layer takes {seconds:.0f} s, and shrinks from {megabytes(size)} to {megabytes(small)}. At the "
        f"rates that this machine reaches for each kind of work, its arithmetic takes {bound['arithmetic']:.1f} s at "
        f"least, and reading and writing it {bound['disk']:.1f} s: the run reaches {100 * least / seconds:.0f} % of "
        f"the possible speed. Calculated from these and not measured, the {REAL_LAYERS} layers of the real model take "
        f"{(runs['seconds'] + further * seconds) / 60:.0f} minutes in "
        f"{gigabytes(max(peaks) + further * memory)} of memory, and become "
        f"{gigabytes(runs['size_bytes'] + further * small)} with towers and embeddings."
    )


SECTIONS: tuple[tuple[Path, str, str, Callable[[dict[str, Any]], str]], ...] = (
    (README, "speed", "paraformer_large.json", speed),
    (BENCHMARKS, "paraformer_large", "paraformer_large.json", paraformer),
    (BENCHMARKS, "paraformer_large_zen5", "paraformer_large_zen5.json", times),
    (BENCHMARKS, "paraformer_large_amx", "paraformer_large_amx.json", times),
    (BENCHMARKS, "transcribe", "transcribe.json", transcription),
    (BENCHMARKS, "transcribe_avx2", "transcribe_avx2.json", transcription),
    (BENCHMARKS, "transcribe_amx", "transcribe_amx.json", transcription),
    (BENCHMARKS, "busy", "busy_machine.json", busy),
    (BENCHMARKS, "serving", "serving_load.json", serving),
    (BENCHMARKS, "forced_aligner", "forced_aligner.json", aligner),
    (BENCHMARKS, "pruned_large", "pruned_large.json", pruned),
    (BENCHMARKS, "omni_moe", "omni_moe.json", omni),
)
"""Page, section, results and the function that makes the section of them."""


def content(results: str, section: Callable[[dict[str, Any]], str]) -> str:
    """Return a section, or a sentence that says that its results are missing."""
    path = RESULTS / results
    if not path.is_file():
        script = f"{path.stem}.py"
        return f"Not measured yet: run `python benchmarks/{script} --json benchmarks/results-committed/{results}`."
    return section(json.loads(path.read_text(encoding="utf-8")))


def main() -> int:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables into the pages")
    is_written = parser.parse_args().write
    for page, name, results, section in SECTIONS:
        text = content(results, section)
        if not is_written:
            print(f"{text}\n")
            continue
        is_changed = write_section(page, name, text)
        print(f"{page.relative_to(ROOT)}, {name}: {'written' if is_changed else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
