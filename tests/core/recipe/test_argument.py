"""Recipes as arguments: all forms in which a step or several are at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sottovoce import Quantize, Recipe
from sottovoce.errors import RecipeError
from sottovoce.plugins.host import Host
from sottovoce.pruning.shrink_step import Shrink

STEP = Quantize(bits=8)


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(allow=[])


@pytest.mark.parametrize(
    "recipe",
    [
        STEP,
        [STEP],
        (STEP,),
        [{"step": "quantize"}],
        {"steps": [STEP]},
        {"steps": ({"step": "quantize"},)},
        Recipe(steps=(STEP,)),
        SimpleNamespace(recipe=Recipe(steps=(STEP,))),
    ],
)
def test_steps_are_taken_in_every_form(host: Host, recipe: Any) -> None:
    assert host.recipe(recipe).steps == (STEP,)


@pytest.mark.parametrize("name", ["int8", Path("int8")])
def test_a_preset_is_taken_by_its_name(host: Host, name: Any) -> None:
    assert host.recipe(name) == host.presets["int8"]


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (None, "give a preset's name, a recipe file, a mapping, or a list of steps, not NoneType"),
        (5, "not int"),
        (b"int8", "not bytes"),
        (Quantize, r"not Quantize; write Quantize\(\.\.\.\)"),
        ([], "a list of 'steps'"),
        (["int8"], "step 1: a step is a mapping with a 'step' name"),
        ([STEP, 5], "step 2: a step is a mapping with a 'step' name"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(host: Host, recipe: Any, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        host.recipe(recipe)


def test_a_step_that_stands_for_others_is_expanded_in_every_form(host: Host) -> None:
    shrink = Shrink(layers=0.5, width=0.5)
    for recipe in (shrink, [shrink], {"steps": [shrink]}, Recipe(steps=(shrink,))):
        assert [step.name for step in host.recipe(recipe).steps] == ["prune_layers", "prune_width"]
