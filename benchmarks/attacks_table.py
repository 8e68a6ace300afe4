"""Attacks Sottovoce with damaged and hostile models, and writes the table of docs/explanation/attacks.md.

`python benchmarks/attacks_table.py` runs the attacks, keeps the counts as JSON, and writes the table from it; with
`--write` it writes the table from the JSON that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from markdown_tables import format_table, write_section

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "attacks.md"
FIGURES = ROOT / "benchmarks" / "results-committed" / "attacks.json"


def attack(arguments: list[str]) -> int:
    """Run the attacks as ``make test-attack`` does, and return what they exit with."""
    path = os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "attack", "--output", str(FIGURES), *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT, check=False).returncode


def table(figures: dict[str, Any]) -> str:
    """Return the Markdown of the table, and under it what it was measured on."""
    counts: dict[str, dict[str, int]] = figures["counts"]
    fine = ("refused", "same", "described")
    columns = [*fine, *sorted({word for row in counts.values() for word in row} - set(fine))]
    rows = [
        [kind, *(str(row.get(word, "")) for word in columns), str(sum(row.values()))] for kind, row in counts.items()
    ]
    sums = [sum(row.get(word, 0) for row in counts.values()) for word in columns]
    rows.append(["**all**", *map(str, sums), str(figures["cases"])])
    machine, operations = figures["machine"], figures["operations"]
    versions = machine["versions"]
    done = ", ".join(f"{count} {name}" for name, count in sorted(operations.items(), key=lambda item: -item[1]))
    models = ", ".join(f"{count} `{name}`" for name, count in figures["models"].items())
    summary = (
        f"{figures['cases']} cases, {len(figures['faults'])} faults (seed {figures['seed']}). Done with them: {done}. "
        f"Models: {models}. The longest took {figures['longest_seconds']:.1f} s of processor time; the largest peak of "
        f"memory was {100 * figures['largest_share_of_limit']:.0f} % of the limit. Measured by "
        f"`python benchmarks/attacks_table.py` on {machine['processor']}, torch {versions['torch']}, FunASR "
        f"{versions['funasr']}, transformers {versions['transformers']}."
    )
    return f"{format_table(['', *columns, 'cases'], rows)}\n\n{summary}"


def main() -> int:
    """Attack where it was not said otherwise, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table from the counts that are there")
    options, arguments = parser.parse_known_args()
    code = 0 if options.write else attack(arguments)
    is_changed = write_section(PAGE, "attacks", table(json.loads(FIGURES.read_text(encoding="utf-8"))))
    print(f"docs/explanation/attacks.md: {'written' if is_changed else 'as it was'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
