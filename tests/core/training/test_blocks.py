"""The step that distills one block after another, on a toy of residual layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sottovoce
from core.pruning.layered import HOST, SAMPLES, make_model, make_samples
from sottovoce import Model
from sottovoce.calibration.reference import Reference
from sottovoce.errors import RecipeError, SamplesError
from sottovoce.report import StepReport

COARSE = {"step": "prune_weights", "method": "magnitude", "sparsity": 0.6}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("layered"))


def compressed(source: Path, *steps: dict[str, Any], **options: Any) -> tuple[Model, list[StepReport]]:
    model = sottovoce.load(source, host=HOST)
    report = sottovoce.compress(model, {"steps": list(steps)}, SAMPLES, host=HOST, **options)
    return model, report.steps


def divergence(source: Path, model: Model) -> float:
    return Reference(sottovoce.load(source, host=HOST), tuple(make_samples(8, 20))).divergence(model)["all"]


def test_blocks_come_nearer_to_their_outputs_of_before(source: Path) -> None:
    plain, _ = compressed(source, COARSE)
    model, steps = compressed(source, COARSE, {"step": "distill_blocks", "learning_rate": 3e-3})
    blocks = steps[1].details["blocks"]
    assert len(blocks) == 10
    assert all(block["after"] <= block["before"] for block in blocks.values())
    assert sum(block["after"] for block in blocks.values()) < 0.8 * sum(block["before"] for block in blocks.values())
    assert divergence(source, model) < divergence(source, plain)
    for name, tensor in plain.module.state_dict().items():
        if "w_" in name and tensor.dim() == 2:
            assert torch.equal(model.module.state_dict()[name] == 0, tensor == 0)
    assert steps[1].summary is not None and steps[1].summary.en.startswith("Distilled 10 blocks")


def test_block_that_nothing_changed_keeps_its_weights(source: Path) -> None:
    model, steps = compressed(source, {"step": "distill_blocks"})
    before = sottovoce.load(source, host=HOST).module.state_dict()
    assert all(tensor.equal(before[name]) for name, tensor in model.module.state_dict().items())
    assert {block["trained"] for block in steps[0].details["blocks"].values()} == {0}


def test_limit_of_memory_changes_nothing(source: Path) -> None:
    plain, limited = (
        compressed(source, COARSE, {"step": "distill_blocks", "updates": 5}, max_memory=limit)[0].module.state_dict()
        for limit in (None, 8_000_000_000)
    )
    assert all(plain[name].equal(limited[name]) for name in plain)


def test_resumed_pass_gives_the_same_weights(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sottovoce.training.blocks import DistillBlocksRunner

    steps = COARSE, {"step": "distill_blocks", "updates": 5}
    whole, whole_steps = compressed(source, *steps)
    train = DistillBlocksRunner._train
    left = iter(range(4))

    def cut_off(*arguments: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DistillBlocksRunner, "_train", cut_off)
        with pytest.raises(KeyboardInterrupt):
            compressed(source, *steps, resume=tmp_path)
    resumed, resumed_steps = compressed(source, *steps, resume=tmp_path)
    expected = whole.module.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in resumed.module.state_dict().items())
    assert resumed_steps[1].details == whole_steps[1].details


def test_result_is_saved_and_loaded_exactly(source: Path, tmp_path: Path) -> None:
    model, _ = compressed(source, COARSE, {"step": "distill_blocks", "updates": 5})
    assert not any(parameter.is_inference() for parameter in model.module.parameters() if parameter.requires_grad)
    again = sottovoce.load(sottovoce.save(model, tmp_path / "student", host=HOST), host=HOST)
    expected = model.module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.module.state_dict().items())


def test_layers_that_do_not_exist_are_named(source: Path) -> None:
    with pytest.raises(RecipeError, match="no float layer in a block is named by other"):
        compressed(source, {"step": "distill_blocks", "targets": ["other"]})


def test_step_without_samples_is_refused(source: Path) -> None:
    model = sottovoce.load(source, host=HOST)
    with pytest.raises(SamplesError, match="calibrates on real samples"):
        sottovoce.compress(model, {"steps": [{"step": "distill_blocks"}]}, host=HOST)
