"""Only what Sottovoce wrote is replaced; what it wrote before it left markers is known too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sottovoce.checkpoint.directory import refuse_existing
from sottovoce.checkpoint.ownership import MARKER, is_written_by_us, mark
from sottovoce.errors import UsageError

REPORT = json.dumps({"recipe": {"steps": []}, "architecture": "toy", "files": {}})


def fill(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"compression.json": REPORT, "model.safetensors": ""},
        {"compression.json": REPORT, "notes of the user.txt": "", "card/chart.png": ""},
        {"evaluation.json": "{}"},
        {"evaluation.json": "{}", "evaluation.html": "", "predictions.jsonl": ""},
        {"model.onnx": "graph" * 1000 + "comment Paraformer, exported by Sottovoce" + "x" * 50_000, "am.mvn": ""},
        {MARKER: "", "engine.plan": ""},
    ],
    ids=["empty", "compressed", "with more files", "evaluation", "evaluation with a page", "earlier export", "marked"],
)
def test_directory_written_by_sottovoce_may_be_replaced(files: dict[str, str], tmp_path: Path) -> None:
    assert is_written_by_us(fill(tmp_path, files))
    refuse_existing(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "years of work"},
        {".git/config": ""},
        {"a/b/c.txt": ""},
        {"config.json": "{}", "model.safetensors": ""},
        {"config.yaml": "model: Paraformer", "model.pt": ""},
        {"model.onnx": "another exporter's"},
        {"compression.json": "{}"},
        {"compression.json": "[1]"},
        {"compression.json": "not JSON"},
        {"compression.json": '{"level": 9, "recipe": "gzip"}'},
        {"evaluation.json": "{}", "thesis.txt": ""},
        {"models/small/compression.json": REPORT},
        {"compression.json/recipe": "", "model.onnx/a": "exported by Sottovoce"},
    ],
)
def test_foreign_directory_is_not_replaced(files: dict[str, str], tmp_path: Path) -> None:
    fill(tmp_path, files)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UsageError, match="was not written by Sottovoce, and is not replaced") as caught:
        refuse_existing(tmp_path, overwrite=True)
    assert len(str(caught.value).splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_link_to_our_file_does_not_mark_a_directory(tmp_path: Path) -> None:
    written, other = fill(tmp_path / "out", {"compression.json": REPORT, MARKER: ""}), tmp_path / "other"
    other.mkdir()
    for name in ("compression.json", MARKER):
        (other / name).symlink_to(written / name)
    assert not is_written_by_us(other)


def test_marker_is_written_only_if_needed(tmp_path: Path) -> None:
    mark(fill(tmp_path / "compressed", {"compression.json": REPORT}))
    mark(fill(tmp_path / "exported", {"model.bin": ""}))
    assert not (tmp_path / "compressed" / MARKER).exists()
    assert is_written_by_us(tmp_path / "exported")
