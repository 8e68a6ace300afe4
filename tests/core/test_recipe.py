"""Recipes: validated as a whole, the same out as in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sottovoce import Quantize, Recipe
from sottovoce.errors import RecipeError
from sottovoce.recipe import PRESETS

names = st.text("abz_.:*+?()[]{}\\d09 '\"#-灯", min_size=1, max_size=20)
quantize = st.builds(
    Quantize,
    targets=st.none() | st.lists(names, min_size=1).map(tuple),
    ignore=st.lists(names).map(tuple),
    min_coverage=st.none() | st.floats(0, 1),
)
recipes = st.lists(quantize, min_size=1, max_size=4).map(lambda steps: Recipe(steps=tuple(steps)))


@given(recipes)
def test_yaml_and_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())).steps == recipe.steps
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))).steps == recipe.steps


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_files_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"recipe.{suffix}"
    recipe = PRESETS["int8"]
    path.write_text(json.dumps(recipe.to_dict()) if suffix == "json" else recipe.to_yaml())
    assert Recipe.read(path).steps == recipe.steps


def test_all_problems_are_reported_at_once() -> None:
    form = {
        "name": "mine",
        "steps": [
            {"step": "quantise"},
            {"step": "quantize", "bits": 5, "group": 32},
            {"step": "quantize", "min_coverage": 1.5, "targets": [""]},
            "quantize",
        ],
    }
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(form, title="mine.yaml")
    text = str(caught.value)
    assert "\n" not in text
    problems = (
        "unknown key 'name'",
        "step 1: unknown step 'quantise' (known:",
        "step 2 (quantize): bits",
        "unknown key 'group'",
        "step 3 (quantize): min_coverage",
        "targets.0",
        "step 4: a step is",
    )
    assert [problem for problem in problems if problem not in text] == []


@pytest.mark.parametrize("form", [None, [], 3, "int8", {}, {"steps": []}, {"steps": {"step": "quantize"}}])
def test_what_is_no_recipe_is_refused(form: Any) -> None:
    with pytest.raises(RecipeError, match="a recipe is a mapping with a list of 'steps'"):
        Recipe.from_dict(form)


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "steps: [}"), ("a.json", "{"), ("a.yaml", "\x00"), ("a.yml", "!x")]
)
def test_files_that_are_no_recipe_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=name) as caught:
        Recipe.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.read(tmp_path / "none.yaml")


def test_a_step_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PRESETS["int8"].steps[0].bits = 4  # type: ignore[attr-defined]
