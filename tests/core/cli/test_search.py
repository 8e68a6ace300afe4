"""``sottovoce search``: what it writes, what it prints, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.commands import Runner, toy_runner
from core.toy import LETTERS, ToyPlugin, make_model
from sottovoce import Recipe


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin(inputs=("text",)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy", width=64, blocks=3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    texts = [LETTERS[number:] + LETTERS[:number] for number in range(8)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps({"key": text, "target": text}) + "\n" for text in texts))
    return path


def test_files_lie_beside_the_recipe_and_compress_takes_it(
    run: Runner, source: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    arguments = ("search", source, "--data", data, "--budget", "15kB", "-o", folder / "recipe.yaml")
    form = run(*arguments, "--json").json
    names = {path.name for path in folder.iterdir()}
    assert names == {"recipe.yaml", "sensitivity.json", "sensitivity.png", "front.png", ".sottovoce-search"}
    assert json.loads((folder / "sensitivity.json").read_text()) == form
    assert Recipe.read(folder / "recipe.yaml").to_dict() == form["recipe"]
    small = tmp_path / "small"
    assert run("compress", source, "-r", folder / "recipe.yaml", "--data", data, "-o", small).code == 0
    stored = (small / "model.safetensors").stat().st_size
    assert stored <= 15_000
    assert stored == pytest.approx(form["size_bytes"]["after"], rel=0.01)
    run(*arguments).fails(2, "recipe.yaml: exists", "--overwrite")
    again = run(*arguments, "--overwrite")
    assert again.code == 0, again.err
    for text in ("this one", "int8 for all", "best mix", "int4-g"):
        assert text in again.out


@pytest.mark.parametrize(
    ("changes", "code", "parts"),
    [
        ({"--budget": "1kB"}, 2, ["below the least size"]),
        ({"--budget": "90MB"}, 2, ["not below the model's size", "nothing was written"]),
        ({"--budget": "tiny"}, 2, ["'tiny' is not a budget"]),
        ({"--limit": "cer=1"}, 2, ["'cer=1' is not a limit", "max_cer_increase=0.1"]),
        ({"--limit": "max_beauty=1"}, 2, ["'max_beauty' names no metric of toy"]),
        ({"--steps": "quantise"}, 2, ["'quantise' is not a step of a search"]),
        ({"--steps": ","}, 2, ["a search needs steps"]),
        ({"-o": "recipe.txt"}, 2, ["give a name such as recipe.yaml"]),
        ({"-o": "nowhere/recipe.yaml"}, 2, ["no such directory"]),
        ({"--held-out": "gone.jsonl"}, 1, ["gone.jsonl: no such manifest"]),
        ({"--held-out": "data.jsonl"}, 2, ["the held-out samples are those that are calibrated on"]),
        ({"--steps": "prune_layers=tail"}, 2, ["toy has no part 'tail' that prune_layers could prune"]),
        ({"--data": "gone.jsonl"}, 1, ["gone.jsonl: no such manifest"]),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    changes: dict[str, Any],
    code: int,
    parts: list[str],
    run: Runner,
    source: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"--data": data, "--budget": "15kB", "-o": "recipe.yaml"} | changes
    run("search", source, *(word for pair in options.items() for word in pair)).fails(code, *parts)
    assert {path.name for path in tmp_path.iterdir()} == {"toy", "data.jsonl"}
