"""Two processes train as one with twice the batch, and may divide student and teacher among them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.toy import make_model
from core.training.several_processes import WAYS, trained
from torchrun import torchrun


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def together(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("together")
    return folder, torchrun(Path(__file__).with_name("several_processes.py"), source, folder)


@pytest.fixture(scope="module")
def alone(source: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    model, facts = trained(source)
    return dict(model.module.state_dict()), facts


def facts_of(together: tuple[Path, subprocess.CompletedProcess[str]], name: str) -> dict[str, Any]:
    path = together[0] / f"{name}.json"
    assert path.is_file(), together[1].stderr
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("process", [0, 1])
def test_two_processes_learn_what_a_single_one_does(way: str, process: int, together: Any, alone: Any) -> None:
    facts = facts_of(together, f"{way}-{process}")
    assert facts["evaluations"] == pytest.approx(alone[1]["evaluations"], rel=1e-3)
    weights = load_file(together[0] / f"{way}-{process}.safetensors")
    assert weights.keys() == alone[0].keys()
    assert all(torch.allclose(weights[name], alone[0][name], atol=1e-4) for name in weights)


@pytest.mark.parametrize("model", ["student", "teacher"])
def test_divided_model_lies_half_in_each_process(model: str, together: Any) -> None:
    # The blocks before they run: each is whole while it runs alone.
    assert facts_of(together, "divided-0")["shares"][model] == pytest.approx(0.5, abs=0.02)
    assert facts_of(together, "copied-0")["shares"][model] == 1.0
