"""Detection of directories that Sottovoce wrote and may therefore replace; all others are the user's work."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from sottovoce.checkpoint.report_file import LARGEST_REPORT
from sottovoce.report import COMPRESSION_FILE

MARKER = ".sottovoce"
"""File in directories that we write without :data:`COMPRESSION_FILE`: exports and downloads."""
EVALUATION_FILE = "evaluation.json"
EVALUATION_PAGE = "evaluation.html"
COMPARISON_MARKER = ".comparison"
"""File in directories of comparisons: an unfinished one resumes there, and a finished one may be replaced."""
COMPARISON_PAGE = "comparison.html"
PREDICTIONS_FILE = "predictions.jsonl"
_EVALUATION_FILES = frozenset({EVALUATION_FILE, EVALUATION_PAGE, PREDICTIONS_FILE})

_END = 1_000_000
_COMMENT = b"exported by Sottovoce"


def mark(directory: Path) -> None:
    """Add a marker to a directory that :func:`is_written_by_us` would not recognize otherwise."""
    if not is_written_by_us(directory):
        text = "Written by Sottovoce, which may replace this directory (--overwrite). Delete this file to keep it.\n"
        (directory / MARKER).write_text(text, encoding="ascii")


def is_written_by_us(directory: Path) -> bool:
    """Return true if a directory is empty or was written by Sottovoce, earlier versions included.

    It is recognized by its compression report, the marker, a comment in the ONNX graph, or because it holds an
    evaluation and nothing else.
    """
    with contextlib.suppress(OSError):
        return (
            holds_only_evaluation(directory)
            or _is_file(directory / MARKER)
            or _is_report(directory / COMPRESSION_FILE)
            or _is_graph(directory / "model.onnx")
        )
    return False


def holds_only_evaluation(directory: Path) -> bool:
    """Return true if a directory is empty or holds only the files that ``evaluate`` writes."""
    return set(os.listdir(directory)) <= _EVALUATION_FILES  # noqa: PTH208  # links and folders count too


def holds_comparison(directory: Path) -> bool:
    """Return true if a directory is empty or was begun by ``compare``."""
    return not os.listdir(directory) or _is_file(directory / COMPARISON_MARKER)  # noqa: PTH208


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_report(path: Path) -> bool:
    if not _is_file(path) or path.stat().st_size > LARGEST_REPORT:
        return False
    try:
        form = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(form, dict) and {"recipe", "architecture"} <= form.keys()


def _is_graph(path: Path) -> bool:
    if not _is_file(path):
        return False
    with path.open("rb") as file:
        # The metadata is at the end of a graph's file.
        file.seek(max(path.stat().st_size - _END, 0))
        return _COMMENT in file.read()
