"""Tables in Markdown files are replaced between their markers, and nothing else is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "markdown_tables.py"
TEXT = "before\n<!-- table: one -->\nold\n<!-- end -->\nbetween\n<!-- table: two -->\nstays\n<!-- end -->\nafter\n"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("markdown_tables", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_has_a_line_for_the_header_and_every_row(tables: ModuleType) -> None:
    assert tables.format_table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_row_with_other_cells_than_the_header_is_refused(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="1 cells, the header 2"):
        tables.format_table(["a", "b"], [["1"]])


def test_only_the_named_section_is_replaced(tables: ModuleType) -> None:
    once = tables.replace_section(TEXT, "one", r"| \1 |")
    assert once == TEXT.replace("old", r"| \1 |")
    assert tables.replace_section(once, "one", r"| \1 |") == once


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing", "occurs 0 times"),
        (TEXT + TEXT, "occurs 2 times"),
        ("<!-- table: one -->\nold\n", "has no"),
        ("<!-- table: one -->\nold\n<!-- table: two -->\n<!-- end -->\n", "has no"),
    ],
)
def test_missing_or_repeated_markers_are_refused(tables: ModuleType, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        tables.replace_section(text, "one", "new")


def test_update_returns_true_if_the_file_changed(tables: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(TEXT, encoding="utf-8")
    assert tables.write_section(path, "two", "new")
    assert not tables.write_section(path, "two", "new")
    with pytest.raises(ValueError, match=r"page\.md: "):
        tables.write_section(path, "three", "new")
