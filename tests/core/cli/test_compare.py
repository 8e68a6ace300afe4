"""The commands that compare: `compare`, `diff`, and `evaluate --output`, on a toy family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.commands import Runner, toy_runner
from core.toy import LETTERS, ToyPlugin, make_model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin(inputs=("text",)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_model(tmp_path / "other", seed=3)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = [{"key": str(number), "target": LETTERS[number:] + LETTERS[:number]} for number in range(6)]
    path = tmp_path / "test.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def test_compare_prints_one_object_that_is_the_written_one(
    run: Runner, source: Path, manifest: Path, tmp_path: Path
) -> None:
    form = run("compare", source, "--recipes", "int8", "--data", manifest, "-o", tmp_path / "out", "--json").json
    assert form == json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in form["models"]] == ["toy", "int8"]


def test_compare_shows_a_table_with_labels_the_command_and_the_page(
    run: Runner, source: Path, other: Path, manifest: Path, tmp_path: Path
) -> None:
    done = run("compare", source, other, "--data", manifest, "--output", tmp_path / "out", "--max-size", "1GB")
    assert done.code == 0, done.err
    for text in ("word error rate", "toy", "other", "peak memory", "comparison.html"):
        assert text in done.out
    assert "wer" not in done.out.replace("lower", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipes", "int9"], "unknown recipe 'int9'"),
        (["--recipes", " , "], "--recipes names no recipe"),
        (["--recipes", "int8", "--max-size", "x0.001"], "no recipe fits"),
        (["--recipes", "int8", "--max-size", "small"], "'small' is not a budget"),
        ([], "nothing to compare with"),
    ],
)
def test_wrong_use_of_compare_is_one_line_and_writes_nothing(
    run: Runner, source: Path, manifest: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    run("compare", source, "--data", manifest, "--output", tmp_path / "out", *arguments).fails(2, message)
    assert not (tmp_path / "out").exists()


def test_diff_names_the_layers(run: Runner, source: Path, other: Path, manifest: Path) -> None:
    form = run("diff", other, source, "--data", manifest, "--key", "3", "--json").json
    assert {unit["name"] for unit in form["units"]} == {"embed", "blocks.0", "blocks.1", "head"}
    done = run("diff", other, source, "--data", manifest, "--key", "3")
    assert done.code == 0, done.err
    for text in ("reference", "baseline", "divergence left", "blocks.0"):
        assert text in done.out


def test_diff_of_an_unknown_key_is_one_line(run: Runner, source: Path, other: Path, manifest: Path) -> None:
    run("diff", other, source, "--data", manifest, "--key", "x").fails(1, "no sample has the key 'x'")


@pytest.mark.parametrize("with_baseline", [True, False])
def test_evaluate_writes_a_page_and_every_prediction(
    run: Runner, source: Path, other: Path, manifest: Path, tmp_path: Path, with_baseline: bool
) -> None:
    out = tmp_path / "out"
    options = ["--baseline", source] if with_baseline else []
    form = run("evaluate", other, *options, "--data", manifest, "--output", out, "--json").json
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.html", "predictions.jsonl"}
    assert form == json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = {"key", "target", "model", "edits", "error", "seconds"} | ({"baseline"} if with_baseline else set())
    assert [line.keys() for line in lines] == [keys] * 6
    assert [line["key"] for line in lines] == [str(number) for number in range(6)]
    assert all((not line["edits"]) == (line["target"] == line["model"]) for line in lines)
    assert "<h1>Evaluation</h1>" in (out / "evaluation.html").read_text(encoding="utf-8")


def test_evaluate_replaces_an_earlier_evaluation_and_nothing_else(
    run: Runner, source: Path, manifest: Path, tmp_path: Path
) -> None:
    arguments = ("evaluate", source, "--data", manifest, "--output", tmp_path / "out", "--overwrite")
    assert run(*arguments).code == 0
    assert run(*arguments).code == 0
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    run(*arguments).fails(2, "was not written by Sottovoce")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
