"""Tables in the documentation are those that the scripts write from the committed results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results-committed"
ALIGNER = "docs/how-to/export-aligner.md"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("markdown_tables")


@pytest.mark.parametrize(
    ("script", "function", "results", "page", "name"),
    [
        ("bundled_table", "summary", "bundled.json", "README.md", "summary"),
        ("bundled_table", "table", "bundled.json", "docs/benchmarks.md", "bundled"),
        ("clip_memory", "table", "clip_memory.json", "docs/benchmarks.md", "clip_memory"),
        ("rounding_table", "table", "rounding.json", "docs/benchmarks.md", "rounding"),
        ("exported_onnx_table", "table", "exported_onnx.json", "docs/benchmarks.md", "exported_onnx"),
        (
            "exported_aligner_table",
            "table",
            "exported_aligner.json",
            "docs/how-to/export-aligner.md",
            "exported_aligner",
        ),
        ("exported_towers_table", "table", "exported_towers.json", "docs/how-to/export-omni.md", "exported_towers"),
        ("aligner_fidelity", "table", "aligner_fidelity.json", "docs/benchmarks.md", "fidelity"),
        ("omni_table", "table", "omni.json", "docs/benchmarks.md", "omni"),
        ("pruned_table", "table", "pruned.json", "docs/benchmarks.md", "pruned"),
        ("distilled_table", "table", "distilled.json", "docs/benchmarks.md", "distilled"),
        ("searched_table", "table", "searched.json", "docs/benchmarks.md", "searched"),
        ("attacks_table", "table", "attacks.json", "docs/explanation/attacks.md", "attacks"),
        ("exported_table", "table", "exported.json", "docs/how-to/export-graphs.md", "exported"),
    ],
)
def test_table_is_what_its_script_writes(
    scripts: ModuleType, script: str, function: str, results: str, page: str, name: str
) -> None:
    figures = json.loads((RESULTS / results).read_text(encoding="utf-8"))
    table = getattr(importlib.import_module(script), function)(figures)
    text = (ROOT / page).read_text(encoding="utf-8")
    assert table
    assert scripts.replace_section(text, name, table) == text


def test_tables_of_models_of_real_size_are_what_their_script_writes(scripts: ModuleType) -> None:
    large = importlib.import_module("large_tables")
    assert len(large.SECTIONS) == 12
    for page, name, results, section in large.SECTIONS:
        text = page.read_text(encoding="utf-8")
        assert scripts.replace_section(text, name, large.content(results, section)) == text, name
