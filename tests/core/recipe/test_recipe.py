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
from sottovoce.experts.step import PartBudget, PruneExperts
from sottovoce.recipe.presets import EXPERT_PRESETS, PRESETS

names = st.text("abz_.:*+?()[]{}\\d09 '\"#-灯", min_size=1, max_size=20)
quantize = st.builds(
    Quantize,
    targets=st.none() | st.lists(names, min_size=1).map(tuple),
    ignore=st.lists(names).map(tuple),
    min_coverage=st.none() | st.floats(0, 1),
)
amounts = st.integers(1, 300) | st.floats(0, 1, exclude_min=True, exclude_max=True)
metrics = st.sampled_from(["reap", "mean-norm", "ean", "frequency"])
protection = st.none() | st.dictionaries(names, st.floats(0, 1, exclude_min=True), max_size=3)
budgets = st.builds(
    PartBudget,
    keep=st.none() | amounts,
    saliency=st.none() | metrics,
    protect=protection,
    merge=st.none() | st.booleans(),
)
prune_experts = st.builds(
    PruneExperts,
    keep=amounts,
    saliency=metrics,
    protect=protection,
    super_experts=st.booleans(),
    merge=st.booleans(),
    scores=st.none() | names,
    held_out=st.floats(0, 1, exclude_max=True),
    parts=st.dictionaries(names | st.sampled_from(["null", "false", "1", "thinker"]), st.none() | budgets, max_size=3),
)
recipes = st.lists(quantize | prune_experts, min_size=1, max_size=4).map(lambda steps: Recipe(steps=tuple(steps)))


@given(recipes)
def test_yaml_and_json_round_trip(recipe: Recipe) -> None:
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())).steps == recipe.steps
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))).steps == recipe.steps


@pytest.mark.parametrize("suffix", ["yaml", "yml", "json"])
def test_recipe_files_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"recipe.{suffix}"
    recipe = PRESETS["int8"]
    path.write_text(json.dumps(recipe.to_dict()) if suffix == "json" else recipe.to_yaml())
    assert Recipe.read(path).steps == recipe.steps


def test_recipe_problems_are_reported_at_once() -> None:
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
def test_invalid_recipe_is_refused(form: Any) -> None:
    with pytest.raises(RecipeError, match="a recipe is a mapping with a list of 'steps'"):
        Recipe.from_dict(form)


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "steps: [}"), ("a.json", "{"), ("a.yaml", "\x00"), ("a.yml", "!x")]
)
def test_invalid_recipe_file_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=name) as caught:
        Recipe.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_recipe_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        Recipe.read(tmp_path / "none.yaml")


def test_step_is_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        PRESETS["int8"].steps[0].bits = 4  # type: ignore[attr-defined]


def prune(**fields: Any) -> PruneExperts:
    (step,) = Recipe.from_dict({"steps": [{"step": "prune_experts", **fields}]}).steps
    assert isinstance(step, PruneExperts)
    return step


def test_part_budget_combines_with_other_keys() -> None:
    step = prune(keep=0.5, merge=True, talker={"keep": 0.75, "protect": {}}, code=False, other=None)
    assert step.parts == {"talker": PartBudget(keep=0.75, protect={}), "code": None, "other": None}
    assert step == prune(keep=0.5, merge=True, parts=dict(step.parts))
    form = step.to_dict()
    assert form["talker"] == {"keep": 0.75, "protect": {}}
    assert form["code"] is form["other"] is False
    assert "parts" not in form
    assert prune(**{key: value for key, value in form.items() if key != "step"}) == step


def test_part_inherits_the_step_s_settings() -> None:
    step = prune(keep=0.5, protect={"audio": 0.1}, saliency="ean", talker={"keep": 3, "protect": {}}, code=False)
    talker, thinker = step.of_part("talker"), step.of_part("thinker")
    assert talker is not None
    assert thinker is not None
    assert (talker.keep, talker.saliency, talker.protect) == (3, "ean", {})
    assert (thinker.keep, thinker.protect) == (0.5, {"audio": 0.1})
    assert step.of_part("code") is None


@pytest.mark.parametrize("keep", [1, 64, 0.5, 1e-9, 0.999])
def test_keep_distinguishes_numbers_and_shares(keep: float) -> None:
    for found in (prune(keep=keep).keep, prune(part={"keep": keep}).parts["part"].keep):  # type: ignore[union-attr]
        assert found == keep
        assert type(found) is type(keep)


@pytest.mark.parametrize("keep", [0, -1, 0.0, 1.0, 1.5, True, False, "0.5", None, float("nan"), [1]])
def test_keep_out_of_range_is_refused(keep: Any) -> None:
    with pytest.raises(RecipeError, match=r"\(prune_experts\): keep: must be a whole number of experts, or a share"):
        prune(keep=keep)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"talker": 0.5}, "unknown key 'talker'"),
        ({"talker": True}, "unknown key 'talker'"),
        ({"held_uot": 0.2}, "unknown key 'held_uot'"),
        ({"talker": {"kep": 3}}, "unknown key 'parts.talker.kep'"),
        ({"talker": {"keep": 1.0}}, "parts.talker.keep: must be a whole number"),
        ({"parts": 3}, "parts: "),
        ({"parts": {"merge": False}}, "a part cannot be called 'merge'"),
        ({"parts": {"step": {}}}, "a part cannot be called 'step'"),
        ({"protect": {"audio": 0}}, "protect.audio: "),
        ({"protect": {"audio": 1.1}}, "protect.audio: "),
        ({"saliency": "reep"}, "saliency: "),
        ({"held_out": 1}, "held_out: "),
        ({"scores": ""}, "scores: "),
    ],
)
def test_invalid_pruning_settings_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        prune(**fields)
    assert "\n" not in str(caught.value)


def test_pruning_with_a_file_needs_no_samples() -> None:
    assert prune().needs_samples
    assert not prune(scores="saliency.json").needs_samples


@pytest.mark.parametrize(("name", "keep"), [("reap25", 0.75), ("reap50", 0.5), ("reap50-int4", 0.5)])
def test_expert_presets_prune_then_quantize(name: str, keep: float) -> None:
    recipe = EXPERT_PRESETS[name]
    first, *rest = recipe.steps
    assert isinstance(first, PruneExperts)
    assert (first.keep, first.saliency) == (keep, "reap")
    assert [step.name for step in rest] == (["quantize"] if "int4" in name else [])
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())).steps == recipe.steps
    assert not set(EXPERT_PRESETS) & set(PRESETS)


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"method": ["gptq"]}, r"method: there is no \['gptq'\]"),
        ({"method": {"gptq": {}}}, "method: there is no {'gptq': {}}"),
        ({"method": "gptq", "options": {"damping": 0.1}}, "unknown key 'options'; .* under its name, as in gptq:"),
        ({"options": None}, "unknown key 'options'"),
        ({"bits": 10**5000}, "bits: .* not a number of 16610 bits"),
    ],
)
def test_invalid_quantize_settings_are_refused_on_one_line(form: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem) as caught:
        Recipe.from_dict({"steps": [{"step": "quantize", **form}]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bound", [10**400, -(10**400), 1e300, float("inf"), True, "1"])
def test_gate_of_a_bound_that_no_report_can_hold_is_refused(bound: Any) -> None:
    with pytest.raises(RecipeError, match="max_cer must be a number, not .* within"):
        Recipe.from_dict({"steps": [{"step": "quantize"}], "gate": {"max_cer": bound}})


def test_keys_of_several_kinds_are_named_together() -> None:
    with pytest.raises(RecipeError, match="unknown key 'a', 1"):
        Recipe.from_dict({"steps": [{"step": "quantize"}], 1: 2, "a": 3})


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("deep.yaml", "[" * 5000, "nested too deeply"),
        ("deep.json", "[" * 100_000, "nested too deeply"),
        ("digits.json", "1" * 5000, "4300 digits"),
        ("date.yaml", "steps: [{step: quantize, bits: 2024-13-45}]", "month must be"),
        ("time.yaml", "x: !!timestamp abc", "AttributeError"),
        ("bool.yaml", "x: !!bool abc", "KeyError"),
        ("endless.yaml", "steps: [{step: quantize, targets: &a [*a]}]", "targets.0: .* not "),
    ],
)
def test_file_that_its_parser_fails_on_is_refused_on_one_line(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RecipeError, match=problem) as caught:
        Recipe.read(tmp_path / name)
    assert len(str(caught.value)) < 1000


def test_value_that_repeats_itself_a_billion_times_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "laughs.yaml"
    path.write_text("\n".join([*lines, "steps: [{step: quantize, bits: *a11}]"]))
    with pytest.raises(RecipeError, match="bits: input should be 2, 3, 4 or 8"):
        Recipe.read(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"bits": 4, "group_size": None},
        {"activations": "static", "input_range": None},
        {"targets": []},
        {"targets": [], "ignore": [], "overrides": {}},
        {"method": "gptq", "gptq": None},
    ],
)
def test_what_is_set_to_nothing_stays_so_when_the_recipe_is_written(fields: dict[str, Any]) -> None:
    recipe = Recipe.from_dict({"steps": [{"step": "quantize", **fields}]})
    assert Recipe.from_dict(recipe.to_dict()).steps == recipe.steps
    assert Recipe.from_dict(yaml.safe_load(recipe.to_yaml())).steps == recipe.steps


def test_four_bits_without_groups_are_those_of_an_automatic_size() -> None:
    step = Recipe.from_dict({"steps": [{"step": "quantize", "bits": 4, "group_size": None}]}).steps[0]
    assert step.to_dict()["group_size"] == "auto"
