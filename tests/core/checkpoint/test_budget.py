"""A model is built no larger than its weights are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sottovoce.checkpoint.budget import BuildingBudget
from sottovoce.errors import CheckpointError

MANY, LARGE = 10**6, 10**9


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(100_000, 100_000, device="meta"),
        lambda: [nn.Linear(4, 4, device="meta") for _ in range(MANY)],
        lambda: [nn.LayerNorm(4) for _ in range(MANY)],
        lambda: nn.Embedding(LARGE, 16),
        lambda: nn.Conv2d(MANY, MANY, 3),
        lambda: torch.arange(LARGE),
        lambda: torch.arange(0, LARGE, 2),
        lambda: torch.zeros((MANY, 1_000)),
        lambda: torch.full((MANY, 1_000), 1.0),
        lambda: torch.arange(MANY)[:, None] * torch.arange(1_000)[None],
        lambda: torch.outer(torch.arange(MANY), torch.arange(1_000)),
    ],
)
def test_too_large_tensor_is_refused_before_it_is_created(build: Callable[[], Any]) -> None:
    with (
        pytest.raises(CheckpointError, match="describes a larger model than the weights belong to"),
        BuildingBudget("m", tensors=10, size_bytes=10_000),
    ):
        build()


def layers() -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(512, 512, device="meta") for _ in range(40)))


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_model_of_the_weights_size_is_built(bits: int) -> None:
    size = sum(parameter.numel() for parameter in layers().parameters())
    with BuildingBudget("m", tensors=80, size_bytes=size * bits // 8):
        assert len(layers()) == 40


def test_budget_ends_with_its_context() -> None:
    with BuildingBudget("m", tensors=1, size_bytes=1):
        pass
    assert nn.Linear(20_000, 5_000, device="meta").in_features == 20_000


def test_invalid_call_raises_torchs_error() -> None:
    with pytest.raises(ZeroDivisionError), BuildingBudget("m", tensors=1, size_bytes=1):
        torch.arange(0, 5 // 0)
    with pytest.raises((RuntimeError, TypeError)), BuildingBudget("m", tensors=1, size_bytes=1):
        torch.zeros("x")  # type: ignore[call-overload]
