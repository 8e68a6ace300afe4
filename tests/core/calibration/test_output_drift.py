"""Sums of what a layer's outputs lack, against plain products."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.drawn import correlated, linear, normal
from sottovoce.calibration.output_drift import OutputDrift


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_those_of_all_calls(dtype: torch.dtype, bias: bool) -> None:
    layer = linear(48, 24, bias, dtype)
    drift, expected = OutputDrift(layer), torch.zeros(24, 48, dtype=torch.float64)
    for seed, rows in enumerate((7, 40, 1)):
        x, before = correlated(rows, 48, seed=seed).to(dtype), normal(rows, 24, seed=seed + 9).to(dtype)
        drift.add(x.view(1, rows, 48), before.view(1, rows, 24))
        with torch.no_grad():
            lacking = before.double() - nn.functional.linear(x.double(), layer.weight.double())
            lacking -= 0 if layer.bias is None else layer.bias.double()
        expected += lacking.t() @ x.double()
    assert drift.rows == 48
    assert torch.allclose(drift.mean(48).double(), expected / 48, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(6, 24), (5, 20), (1, 4, 24)])
def test_outputs_of_another_number_are_left_out(shape: tuple[int, ...]) -> None:
    drift = OutputDrift(linear(48, 24))
    drift.add(normal(5, 48), normal(*shape))
    drift.add(normal(5, 48), None)
    assert drift.rows == 0
    assert not drift.mean(5).any()
