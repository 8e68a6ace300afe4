"""A metric of a third party looks like core's: in evaluations, gates, lists, reports and cards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.commands import Runner
from core.toy import LETTERS, make_model
from third_party.cards import cards

NAME, LABEL = "nonzero_parameters", "parameters that are not zero"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [json.dumps({"key": str(number), "target": LETTERS}) for number in range(2)]
    (tmp_path / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "test.jsonl"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


def test_evaluation_has_it_with_the_baseline_s(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "sparse.yaml"
    recipe.write_text("steps: [{step: zero_weights, share: 0.75}]", encoding="utf-8")
    run("compress", source, "--recipe", recipe, "--output", tmp_path / "small")
    metric = run("evaluate", tmp_path / "small", "--data", data, "--baseline", source, "--json").json["metrics"][NAME]
    zeroed = 2 * 32 * 32 * 0.75
    assert metric["baseline"] - metric["value"] == zeroed
    assert metric["unit"] == "parameters"
    assert (metric["kind"], metric["better"], metric["label"]["zh"]) == ("cost", "lower", "非零参数")


def test_table_shows_it(run: Runner, source: Path, data: Path) -> None:
    assert LABEL in run("evaluate", source, "--data", data).out


def test_gate_may_bound_it(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "gated.yaml"
    recipe.write_text(f"steps: [{{step: quantize}}]\ngate: {{max_{NAME}: 1}}", encoding="utf-8")
    done = run("compress", source, "--recipe", recipe, "--gate-data", data, "--output", tmp_path / "small")
    done.fails(1, f"the gate cannot be held: max_{NAME} is")


def test_unknown_gate_error_lists_it(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "gated.yaml"
    recipe.write_text("steps: [{step: quantize}]\ngate: {max_zeros: 1}", encoding="utf-8")
    done = run("compress", source, "--recipe", recipe, "--gate-data", data, "--output", tmp_path / "small")
    done.fails(2, "'max_zeros' names no metric of toy", NAME)


def test_metric_is_listed_with_core_s(run: Runner) -> None:
    listed = run("plugins", "--json").json["metrics"]
    assert listed[NAME] == LABEL
    assert "cer" in listed


def test_cards_show_it_among_the_costs_in_both_languages(run: Runner, source: Path, data: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    run("compress", source, "--recipe", "int8", "--output", small)
    run("evaluate", small, "--data", data, "--baseline", source, "--record")
    english, chinese = cards(small)
    row = next(line for line in english.splitlines() if LABEL in line and "|" in line)
    assert "↓" in row
    assert any("非零参数" in line and "↓" in line for line in chinese.splitlines())
