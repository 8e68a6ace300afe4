"""Training that was cut off goes on, and gives the same weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.toy import make_model
from core.training.letters import HOST, SAMPLES, damaged
from sottovoce.training.loop import TrainingLoop

STEP = {"step": "distill", "steps": 30, "batch": 8, "evaluations": 6}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("teacher"))


class CutOffError(Exception):
    """Stands for a process that is killed."""


def run(source: Path, directory: Path | None, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    model = damaged(source)
    recipe = {"steps": [{**STEP, **settings}]}
    report = sottovoce.compress(model, recipe, training_samples=SAMPLES, resume=directory, host=HOST).steps[0]
    return model.module.state_dict(), dict(report.details)


def cut_off(source: Path, directory: Path, after: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    update = TrainingLoop._update

    def counted(loop: TrainingLoop, step: int, sums: Any) -> float:
        if step == after:
            raise CutOffError
        return update(loop, step, sums)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_update", counted)
        with pytest.raises(CutOffError):
            run(source, directory, **settings)


@pytest.mark.parametrize("settings", [{}, {"average": 0.9, "degrade": 0.5, "dropout": True}], ids=str)
@pytest.mark.parametrize("after", [3, 12, 29])
def test_resumed_training_gives_the_weights_of_an_uncut_run(
    source: Path, tmp_path: Path, after: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, facts = run(source, None, **settings)
    cut_off(source, tmp_path, after, monkeypatch, **settings)
    resumed, resumed_facts = run(source, tmp_path, **settings)
    assert all(whole[name].equal(resumed[name]) for name in whole)
    assert resumed_facts["evaluations"] == facts["evaluations"]


def test_finished_updates_are_not_done_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off(source, tmp_path, 17, monkeypatch)
    done: list[int] = []
    update = TrainingLoop._update
    monkeypatch.setattr(TrainingLoop, "_update", lambda loop, step, sums: done.append(step) or update(loop, step, sums))
    run(source, tmp_path)
    assert done == list(range(15, 30))


def test_checkpoint_of_other_settings_is_not_used(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(source, tmp_path, 17, monkeypatch)
    other, _ = run(source, tmp_path, learning_rate=1e-3)
    alone, _ = run(source, None, learning_rate=1e-3)
    assert all(alone[name].equal(other[name]) for name in alone)


def test_checkpoint_holds_no_pickle_and_a_damaged_one_is_left_aside(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(source, tmp_path, 17, monkeypatch)
    files = sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file())
    assert files == [".json", ".safetensors"]
    tensors = next(tmp_path.rglob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:100])
    resumed, _ = run(source, tmp_path)
    whole, _ = run(source, None)
    assert all(whole[name].equal(resumed[name]) for name in whole)


def test_facts_of_a_checkpoint_cannot_name_a_file_elsewhere(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "resume"
    cut_off(source, directory, 17, monkeypatch)
    facts = next(directory.rglob("training.json"))
    tensors = next(directory.rglob("*.safetensors"))
    shutil.move(tensors, tmp_path / tensors.name)
    form = json.loads(facts.read_text())
    facts.write_text(json.dumps({**form, "tensors": f"../../{tensors.name}"}))
    resumed, _ = run(source, directory)
    whole, _ = run(source, None)
    assert all(whole[name].equal(resumed[name]) for name in whole)
