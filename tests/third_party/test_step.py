"""A step of a third party looks like core's: in recipes, errors, ``--help``, reports and cards."""

from __future__ import annotations

from pathlib import Path

import sottovoce
from core.commands import Runner
from core.toy import make_model
from sottovoce.plugins.host import Host
from third_party.cards import cards

RECIPE = "steps: [{step: zero_weights, share: 0.75}]"


def recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "sparse.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_step_from_a_recipe_file_changes_the_saved_model(run: Runner, host: Host, tmp_path: Path) -> None:
    run("compress", make_model(tmp_path / "toy"), "--recipe", recipe(tmp_path), "--output", tmp_path / "small")
    module = sottovoce.load(tmp_path / "small", host=host).module
    for block in module.blocks:  # type: ignore[union-attr]
        assert float((block.weight == 0).float().mean()) == 0.75  # type: ignore[operator, union-attr]


def test_step_is_listed_with_core_s(run: Runner) -> None:
    steps = run("plugins", "--json").json["steps"]
    assert steps["zero_weights"] == "Set the smallest weights of every target layer to zero."
    assert "quantize" in steps


def test_unknown_step_error_lists_it(run: Runner, tmp_path: Path) -> None:
    wrong = recipe(tmp_path, "steps: [{step: zero_weight}]")
    done = run("compress", make_model(tmp_path / "toy"), "--recipe", wrong, "--output", tmp_path / "small")
    done.fails(2, "unknown step 'zero_weight'", "quantize", "zero_weights")


def test_wrong_setting_is_named_as_for_core_s_steps(run: Runner, tmp_path: Path) -> None:
    wrong = recipe(tmp_path, "steps: [{step: zero_weights, share: 2}]")
    done = run("compress", make_model(tmp_path / "toy"), "--recipe", wrong, "--output", tmp_path / "small")
    done.fails(2, "step 1 (zero_weights): share: input should be less than 1, not 2")


def test_cards_describe_it_in_both_languages(run: Runner, tmp_path: Path) -> None:
    run("compress", make_model(tmp_path / "toy"), "--recipe", recipe(tmp_path), "--output", tmp_path / "small")
    english, chinese = cards(tmp_path / "small")
    assert "Set 75% of the weights of 2 layers to zero." in english
    assert "将 2 个层中 75% 的权重置零。" in chinese
    assert "- sparse\n" in english
