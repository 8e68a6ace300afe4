"""Two processes that share calibration and evaluation make what one makes, bit by bit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from examples.several_processes import PARAFORMER, ROOT, compress_and_measure
from torchrun import torchrun

TIMES = {"latency_ms", "cpu_ms", "rtf", "peak_memory_bytes"}


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("together")
    return folder, torchrun(Path(__file__).with_name("several_processes.py"), folder)


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return json.loads(json.dumps(compress_and_measure()))


def facts_of(together: tuple[Path, subprocess.CompletedProcess[str]], process: int) -> dict[str, Any]:
    path = together[0] / f"process-{process}.json"
    assert path.is_file(), together[1].stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("model", ["paraformer", "omni"])
def test_both_processes_hold_the_model_that_one_makes(model: str, process: int, together: Any, alone: Any) -> None:
    facts = facts_of(together, process)[model]
    differing = [name for name, digest in alone[model]["tensors"].items() if facts["tensors"].get(name) != digest]
    assert differing == []
    assert facts == alone[model]


def test_evaluation_by_two_processes_has_the_metrics_of_one_and_vouches_for_no_time(together: Any, alone: Any) -> None:
    shared, expected = facts_of(together, 0)["evaluation"], alone["evaluation"]
    assert shared["metrics"].keys() == expected["metrics"].keys()
    for name in shared["metrics"].keys() - TIMES:
        assert shared["metrics"][name] == expected["metrics"][name]
    assert shared["machine"]["processes"] == 2
    assert "2 processes shared the work" in shared["machine"]["busy"]
    assert "processes" not in expected["machine"]
    assert facts_of(together, 1)["evaluation"]["metrics"] == shared["metrics"]


@pytest.mark.parametrize("process", [0, 1])
def test_other_samples_in_one_process_are_refused_by_all(process: int, together: Any) -> None:
    refusal = facts_of(together, process)["refusal"]
    assert refusal.startswith("process 1 of 2 was given other samples than process 0; start all processes with")


def test_process_that_fails_ends_all(together: Any) -> None:
    folder, run = together
    assert run.returncode == 1
    assert "the second process failed" in run.stderr
    assert not list(folder.glob("survivor-*"))


def test_command_prints_and_writes_once(tmp_path: Path) -> None:
    data, output, recipe = ROOT / "tests/calibration.jsonl", tmp_path / "out" / "small", tmp_path / "recipe.json"
    step = {"step": "prune_weights", "method": "wanda", "targets": ["re:.*encoders0.0.feed_forward.w_.*"]}
    recipe.write_text(json.dumps({"steps": [step]}))
    arguments = ("compress", PARAFORMER, "--recipe", recipe, "--data", data, "--output", output, "--json")
    run = torchrun("-m", "sottovoce", *arguments)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["samples"]["count"] == 6
    assert [path.name for path in output.parent.iterdir()] == ["small"]


def test_error_of_all_processes_is_printed_once(tmp_path: Path) -> None:
    run = torchrun("-m", "sottovoce", "compress", PARAFORMER, "--recipe", "none-such", "--output", tmp_path / "small")
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 1
    assert len(errors) == 1
    assert "none-such" in errors[0]
    assert not run.stdout
    assert list(tmp_path.iterdir()) == []
