"""Weights without data are not drawn; others are."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from sottovoce.checkpoint.undrawn import Undrawn
from sottovoce.checkpoint.weights import without_memory


def test_weights_with_data_are_drawn_and_those_without_are_left() -> None:
    with Undrawn():
        real, empty = torch.zeros(3), torch.zeros(3, device="meta")
        assert nn.init.normal_(real).count_nonzero() == 3
        assert real.uniform_(1, 2).min() >= 1
        assert nn.init.normal_(empty) is empty
        assert empty.uniform_() is empty
        assert nn.init.kaiming_uniform_(torch.empty(2, 2, device="meta")).is_meta
    assert torch.empty(3, device="meta").normal_().is_meta


def test_a_module_without_memory_imports_no_compiler() -> None:
    script = """
import sys
from torch import nn
from sottovoce.checkpoint.weights import without_memory
with without_memory():
    module = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2))
    nn.init.normal_(module[1].weight)
assert all(parameter.is_meta for parameter in module.parameters())
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_module_built_beside_one_without_memory_is_as_ever() -> None:
    with without_memory():
        assert nn.Embedding(4, 3).weight.is_meta
    assert nn.Embedding(4, 3).weight.count_nonzero() == 12
