"""A model is prepared for training, and afterwards is what it was but for its weights."""

from __future__ import annotations

from pathlib import Path

import torch

import sottovoce
from core.toy import make_model
from core.training.letters import HOST, training
from sottovoce.training.step import Distill
from sottovoce.training.student import prepared_for_training


def test_halves_are_float32_while_trained_and_float32_tables_stay_exact(tmp_path: Path) -> None:
    model = sottovoce.load(make_model(tmp_path), host=HOST)
    model.module.bfloat16()
    table = torch.rand(8) + 1e-5
    model.module.register_buffer("table", table.clone(), persistent=False)
    weights = {name: parameter.detach().clone() for name, parameter in model.module.named_parameters()}
    with prepared_for_training(model, training(), Distill()):
        assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
        sum(parameter.sum() for parameter in model.module.parameters()).backward()  # type: ignore[union-attr]
    assert all(parameter.equal(weights[name]) for name, parameter in model.module.named_parameters())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert model.module.get_buffer("table").equal(table)
