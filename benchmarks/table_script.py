"""The command line of scripts that measure, keep the figures as JSON, and write tables from them."""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import write_section

ROOT = Path(__file__).parents[1]
Section = tuple[Path, str, Callable[[dict[str, Any]], str]]
"""A page, the name of a table in it, and the function that returns its Markdown from the figures."""


def run(description: str | None, measure: Callable[[], Any], figures: Path, sections: Sequence[Section]) -> int:
    """Measure where ``--write`` does not say otherwise, and write the tables.

    Args:
        description: The script's docstring.
        measure: Function that returns the figures.
        figures: File that keeps them.
        sections: The tables.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the tables from the figures that are there")
    if not parser.parse_args().write:
        warnings.simplefilter("ignore")
        logging.getLogger("sottovoce").setLevel(logging.ERROR)
        figures.write_text(json.dumps(measure(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    known = json.loads(figures.read_text(encoding="utf-8"))
    for page, name, table in sections:
        is_changed = write_section(page, name, table(known))
        print(f"{page.relative_to(ROOT)}: {'written' if is_changed else 'as it was'}")
    return 0
