"""What a model takes at least: all tensors once, and the largest weight that is made float."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import sottovoce
from core.toy import make_host, make_model
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import least_memory_bytes
from sottovoce.runtime.packed_linear import PackedLinear

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


def test_int8_copies_count_and_are_never_made_float() -> None:
    scheme = Scheme(bits=4, group_size=32)
    module = nn.Sequential(PackedLinear(64, 32, False, scheme), PackedLinear(64, 16, False, scheme), nn.Linear(4, 4))
    stored = sum(tensor.nbytes for tensor in module.state_dict().values())
    assert least_memory_bytes(module) == stored + 4 * 64 * 32
    assert least_memory_bytes(module, lambda root: [root[0]]) == stored + 64 * 32 + 4 * 64 * 16
    assert least_memory_bytes(module, lambda root: root.modules()) == stored + 64 * 48
