"""Files of a search: complete, readable, and still written without matplotlib."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from sottovoce import Recipe, SearchResult
from sottovoce.errors import OutputError
from sottovoce.recipe_search import files, table
from sottovoce.recipe_search.result import Point

ENTRY = {"nats": {"all": 1e-5, "text": 1e-5}, "thorough": True, "measured": True}
RESULT = SearchResult(
    recipe=Recipe.from_dict({"steps": [{"step": "quantize"}]}),
    model="a/model",
    size_bytes={"before": 9_000_000, "after": 3_000_000, "least": 2_000_000},
    divergence={"all": 2e-5, "text": 2e-5},
    interval=(1e-5, 3e-5),
    predicted=1e-5,
    choices={"blocks.0": "int8", "blocks.1": "float", "prune_width encoder": "keep 0.5"},
    sensitivity={
        "blocks.0": {"float": ENTRY, "int8": ENTRY},
        "blocks.1": {"float": ENTRY, "int8": {**ENTRY, "nats": {"all": 0.0}}},
        "prune_width encoder": {"all": ENTRY, "keep 0.5": ENTRY},
    },
    front=[Point(name="mix", size_bytes=2_000_000, divergence=1e-3, expected=2e-3)],
    uniform=[Point(name="int8", size_bytes=3_100_000, divergence=2e-5)],
    limits={"max_cer_increase": 0.05},
)


def test_all_files_are_written_and_read_again(tmp_path: Path) -> None:
    assert files.write(RESULT, tmp_path / "recipe.yaml") == []
    assert {path.name for path in tmp_path.iterdir()} == {
        "recipe.yaml",
        "sensitivity.json",
        "sensitivity.png",
        "front.png",
    }
    assert Recipe.read(tmp_path / "recipe.yaml").to_dict() == RESULT.recipe.to_dict()
    assert json.loads((tmp_path / "sensitivity.json").read_text()) == json.loads(json.dumps(RESULT.to_dict()))
    for name in ("sensitivity.png", "front.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_are_no_pictures_and_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return importing(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert files.write(RESULT, tmp_path / "recipe.yaml") == [
        "no pictures: plots need matplotlib; pip install 'sottovoce[search]'"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", "sensitivity.json"}


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"):
        files.write(RESULT, tmp_path / "gone" / "recipe.yaml")


def test_the_table_says_what_was_chosen(tmp_path: Path) -> None:
    made = table.of_search(RESULT, tmp_path / "recipe.yaml")
    assert list(made.columns[-1].cells) == ["2.00e-05 (1.00e-05 to 3.00e-05)", "", "0.00200"]
    caption = str(made.caption)
    for text in ("prune_width encoder: keep 0.5", "int8: 1 layer", "float: 1 layer", "max_cer_increase", "text"):
        assert text in caption
