"""Reader of ``compression.json``."""

from __future__ import annotations

from pathlib import Path

from sottovoce.checkpoint.plain_data import parse_json
from sottovoce.errors import SourceError
from sottovoce.report import COMPRESSION_FILE, CompressionReport

LARGEST_REPORT = 100_000_000
"""Bytes of a report; that of a model with eighteen thousand experts has five million."""


def read_report(directory: Path) -> CompressionReport:
    """Read the report that lies in a model's directory.

    Raises:
        OSError: It is missing or cannot be opened.
        ValueError: It is too large, broken, or no report; the message names the field.
    """
    with (directory / COMPRESSION_FILE).open("rb") as file:
        content = file.read(LARGEST_REPORT + 1)
    if len(content) > LARGEST_REPORT:
        raise ValueError(f"it is larger than {LARGEST_REPORT // 1_000_000} MB")
    return CompressionReport.from_dict(parse_json(content.decode("utf-8")))


def report_of(directory: Path) -> CompressionReport | None:
    """Return the report that lies in a model's directory; ``None`` for a model as published.

    Raises:
        SourceError: It is damaged.
    """
    path = directory / COMPRESSION_FILE
    if not path.is_file():
        return None
    try:
        return read_report(directory)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: damaged ({error}); fetch or make the model again") from None
