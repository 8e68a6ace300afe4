"""What a model takes at least: all tensors once, and the largest weight that is made float."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sottovoce
from core.toy import make_host, make_model
from sottovoce.runtime.layers import least_memory_bytes

WIDTH, BLOCKS = 64, 3
FLOAT_BLOCK = 4 * WIDTH * WIDTH


@pytest.mark.parametrize(("recipe", "extra"), [("int8", 0), ("int8-weight", FLOAT_BLOCK), ("fp8", FLOAT_BLOCK)])
def test_a_compressed_model_needs_its_tensors_and_one_float_weight(recipe: str, extra: int, tmp_path: Path) -> None:
    source, host = make_model(tmp_path / "toy", width=WIDTH, blocks=BLOCKS), make_host()
    model = sottovoce.load(source, host=host)
    assert least_memory_bytes(model.module) == model.size_bytes
    report = sottovoce.compress(model, recipe, host=host)
    assert report.least_memory_bytes == model.size_bytes + extra
    estimate = sottovoce.inspect(source, recipe, host=host)["estimate"]
    assert estimate["least_memory_bytes"] == report.least_memory_bytes


def test_shared_weights_count_once() -> None:
    table, head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
    head.weight = table.weight
    assert least_memory_bytes(nn.Sequential(table, head)) == 8 * 4 * torch.float32.itemsize
