"""``evaluate --record``, ``push`` and ``pull`` as a user types them: what they print, refuse and leave alone."""

from __future__ import annotations

import json
import shutil
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
def data(tmp_path: Path) -> Path:
    lines = [json.dumps({"key": str(number), "target": LETTERS[number:]}) for number in range(3)]
    (tmp_path / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "test.jsonl"


@pytest.fixture
def small(run: Runner, source: Path, tmp_path: Path) -> Path:
    run("compress", source, "-r", "int8", "-o", tmp_path / "small", "--json")
    return tmp_path / "small"


def evaluations(directory: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((directory / "compression.json").read_text("utf-8"))["evaluations"]
    return found


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are kept, whatever else the machine does: that they are not on a busy one is test_record's."""
    monkeypatch.setattr("sottovoce.entrypoints.paired_timing.busy", lambda *_: None)


def test_record_adds_the_printed_metrics(run: Runner, small: Path, source: Path, data: Path) -> None:
    arguments = ("evaluate", small, "--data", data, "--baseline", source, "--json")
    printed = run(*arguments, "--record", "--dataset", "owner/toys@main#test").json
    [kept] = evaluations(small)
    assert kept["metrics"] == printed["metrics"]
    assert kept["dataset"] == {"id": "owner/toys", "revision": "main", "task": "test"}
    run(*arguments)
    assert len(evaluations(small)) == 1


def test_record_is_refused_before_any_run(run: Runner, small: Path, source: Path, data: Path) -> None:
    run("evaluate", source, "--data", data, "--record").fails(2, "there is no compression.json")
    run("evaluate", "owner/name", "--data", data, "--record").fails(2, "there is no compression.json")
    run("evaluate", small, "--data", data, "--record", "--dataset", "toys").fails(2, "write a dataset as owner/name")
    assert evaluations(small) == []


def test_record_with_another_baseline_is_refused(run: Runner, small: Path, data: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", seed=1)
    for samples in (data, tmp_path / "nowhere.jsonl"):  # before the samples are looked at
        run("evaluate", small, "--data", samples, "--baseline", other, "--record").fails(
            2, "is not the model that", "give toy as the baseline"
        )
    assert evaluations(small) == []


def test_dry_run_lists_files_and_writes_the_card(run: Runner, small: Path) -> None:
    (small / "notes.txt").write_text("mine", encoding="utf-8")
    form = run("push", small, "you/toy-int8", "--dry-run", "--json").json
    assert form["dry_run"] is True
    assert form["left_out"] == ["notes.txt"]
    listed = {file["name"]: file for file in form["files"]}
    assert listed["model.safetensors"]["size_bytes"] == (small / "model.safetensors").stat().st_size
    assert all(len(file["sha256"]) == 64 for file in form["files"])
    card = small.parent / "small.card"
    written = {path.relative_to(card).as_posix() for path in card.rglob("*") if path.is_file()}
    assert {"README.md", "README_zh.md"} <= written <= set(listed)
    assert "you/toy-int8" in (card / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in small.iterdir()} == {
        "compression.json",
        "config.yaml",
        "model.safetensors",
        "notes.txt",
    }


def test_table_shows_the_kept_modules(run: Runner, small: Path) -> None:
    (small / "notes.txt").write_text("mine", encoding="utf-8")
    done = run("push", small, "you/toy-int8", "--dry-run")
    assert done.code == 0
    assert "stays here" in done.out
    assert "to upload" in done.out
    assert "the card is in" in done.err


def test_card_replaces_only_a_card(run: Runner, small: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    for _ in range(2):
        assert run("push", small, "you/toy", "--dry-run", "--card", card).code == 0
    (card / "thesis.tex").write_text("years of work", encoding="utf-8")
    run("push", small, "you/toy", "--dry-run", "--card", card, "-q").fails(2, "holds more than a card")
    assert (card / "thesis.tex").read_text(encoding="utf-8") == "years of work"
    run("push", small, "you/toy", "--dry-run", "--card", small, "-q").fails(2, "holds more than a card")


def test_card_for_modelscope_starts_in_chinese(run: Runner, small: Path) -> None:
    form = run("push", small, "you/toy", "--hub", "modelscope", "--dry-run", "--json").json
    assert {"README.md", "README_en.md"} <= {file["name"] for file in form["files"]}


def test_variants_are_published_from_a_directory(run: Runner, small: Path, source: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "out" / "int8")
    run("compress", source, "-r", "int8-weight", "-o", tmp_path / "out" / "int8-weight")
    arguments = ("push", tmp_path / "out", "you/toy", "--variants", "int8,int8-weight", "--dry-run", "--json")
    form = run(*arguments).json
    assert {each["repository"] for each in form["variants"].values()} == {"you/toy-int8", "you/toy-int8-weight"}
    assert (tmp_path / "out.card" / "int8" / "README.md").is_file()
    form = run(*arguments, "--branches").json
    assert {(each["repository"], each["branch"]) for each in form["variants"].values()} == {
        ("you/toy", "int8"),
        ("you/toy", "int8-weight"),
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("toy",), "a repository is named owner/name"),
        (("you/toy", "--branches"), "goes with --variants"),
        (("you/toy", "--card", "x"), "goes with --dry-run"),
        (("you/toy", "--variants", "a,b"), "there is no compression.json"),
        (("you/toy", "--variants", "a,b", "--create-pr"), "goes with neither --branch nor --create-pr"),
        (("you/toy", "--hub", "gitlab"), "gitlab"),
    ],
)
def test_invalid_push_is_refused(run: Runner, small: Path, arguments: tuple[str, ...], problem: str) -> None:
    before = {path.name: path.read_bytes() for path in small.iterdir()}
    run("push", small, *arguments).fails(2, problem)
    assert {path.name: path.read_bytes() for path in small.iterdir()} == before


def test_unpublishable_directory_is_refused(run: Runner, small: Path, source: Path, tmp_path: Path) -> None:
    run("push", source, "you/toy", "--dry-run").fails(2, "there is no compression.json")
    run("push", tmp_path / "none", "you/toy", "--dry-run").fails(2, "there is no compression.json")
    (small / "config.yaml").write_text("model: Toy\n", encoding="utf-8")
    run("push", small, "you/toy", "--dry-run").fails(1, "config.yaml has changed since it was written")
    assert not (tmp_path / "small.card").exists()


def test_invalid_pull_is_refused(run: Runner, small: Path, tmp_path: Path) -> None:
    run("pull", "you/toy", "-o", small).fails(2, "exists already")
    run("pull", "toy", "-o", tmp_path / "new").fails(2, "a repository is named owner/name")
    assert not (tmp_path / "new").exists()
