"""Distills the bundled models, and writes the tables of docs/benchmarks.md.

`python benchmarks/distilled_table.py` measures, keeps the figures as JSON, and writes the tables from it; `--write`
writes them from the JSON that is there. `--recipes "TITLE;TITLE"` measures these and keeps the other rows.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distilled_recipes import ALIGNER, OMNI, PARAFORMER, RECIPES, TITLES
from markdown_tables import write_section
from pruned_table import BENCHMARKS, DATA, ROOT, measure, merged
from pruned_table import table as pruned_table

FIGURES = ROOT / "benchmarks" / "results-committed" / "distilled.json"
TRAIN = DATA / "mandarin-commands" / "train.jsonl"


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of a table for every model, and under them what they were measured on."""
    return pruned_table(figures, "distilled_table", TITLES)


def measure_all(titles: Sequence[str]) -> dict[str, Any]:
    """Measure rows by their titles, with samples to train on for every family; those of omni models are made first."""
    with tempfile.TemporaryDirectory() as folder:
        if not set(titles).isdisjoint(RECIPES[OMNI]):
            subprocess.run([sys.executable, ROOT / "examples" / "make_omni_tasks.py", folder], check=True)
        return measure(titles, RECIPES, {PARAFORMER: TRAIN, ALIGNER: TRAIN, OMNI: Path(folder) / "train.jsonl"})


def main() -> int:
    """Measure where it was not said otherwise, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables from the figures that are there")
    parser.add_argument("--recipes", default=";".join(TITLES), help="titles of rows to measure, with ; between them")
    given = parser.parse_args()
    titles = given.recipes.split(";")
    if unknown := [title for title in titles if title not in TITLES]:
        parser.error(f"there is no recipe {unknown[0]!r}; there are: {'; '.join(TITLES)}")
    if not given.write:
        warnings.simplefilter("ignore")
        logging.getLogger("sottovoce").setLevel(logging.ERROR)
        new = measure_all(titles)
        # Read late: another run may have measured other rows meanwhile.
        known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        figures = merged(known, new, RECIPES)
        FIGURES.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    is_changed = write_section(BENCHMARKS, "distilled", table(json.loads(FIGURES.read_text(encoding="utf-8"))))
    print(f"docs/benchmarks.md: {'written' if is_changed else 'as it was'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
