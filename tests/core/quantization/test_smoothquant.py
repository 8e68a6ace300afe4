"""SmoothQuant's factors by the formula of the paper, and scaling that leaves the function as it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.drawn import linear, normal
from sottovoce.errors import CoverageError
from sottovoce.quantization.smoothquant import scale_between_, smoothing_factors


class RootMeanSquare(nn.Module):
    """A normalization without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(width, seed=3).abs() + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt() * self.weight


@given(alpha=st.floats(0, 1), seed=st.integers(0, 99))
def test_factors_are_those_of_the_paper(alpha: float, seed: int) -> None:
    x = normal(20, 12, seed=seed) * torch.linspace(0.1, 9, 12)
    weights = [normal(5, 12, seed=seed + 1), normal(8, 12, seed=seed + 2)]
    found = smoothing_factors(x.abs().amax(0), weights, alpha)
    for index in range(12):
        largest_input = max(abs(value) for value in x[:, index].tolist())
        largest_weight = max(abs(value) for weight in weights for value in weight[:, index].tolist())
        assert float(found[index]) == pytest.approx(largest_input**alpha / largest_weight ** (1 - alpha), rel=1e-4)


def test_half_way_inputs_and_weights_are_equally_large() -> None:
    x, weight = normal(50, 16) * torch.logspace(-1, 2, 16), normal(8, 16, seed=1)
    factors = smoothing_factors(x.abs().amax(0), [weight], 0.5)
    assert torch.allclose((x / factors).abs().amax(0), (weight * factors).abs().amax(0), rtol=1e-4)


def test_inputs_that_are_always_zero_stay() -> None:
    factors = smoothing_factors(torch.tensor([0.0, 4.0]), [torch.tensor([[0.0, 0.0], [0.0, 1.0]])], 0.5)
    assert factors.tolist() == pytest.approx([1, 2])


@pytest.mark.parametrize(
    "source",
    [
        nn.LayerNorm(64),
        nn.LayerNorm(64, bias=False),
        RootMeanSquare(64),
        linear(64, 64),
        linear(64, 64, False),
    ],
    ids=["layer norm", "layer norm without bias", "root mean square", "linear", "linear without bias"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_function_stays_the_same(source: nn.Module, dtype: torch.dtype) -> None:
    import copy

    source, readers = copy.deepcopy(source).to(dtype), [linear(64, 48, dtype=dtype), linear(64, 8, False, dtype)]
    if getattr(source, "bias", None) is not None:
        source.bias.data = normal(64, seed=5).to(dtype)
    x, factors = normal(9, 64).to(dtype), normal(64, seed=2).abs() * 4 + 0.1

    def outputs() -> list[Tensor]:
        with torch.no_grad():
            return [reader(source(x).relu()) for reader in readers]

    before, given = outputs(), source(x).detach()
    scale_between_(source, readers, factors)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    assert all(torch.allclose(one, other, atol=tolerance) for one, other in zip(outputs(), before, strict=True))
    assert torch.allclose(source(x).detach().float() * factors, given.float(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "source",
    [
        nn.ReLU(),
        nn.Identity(),
        nn.LayerNorm(64, elementwise_affine=False),
        nn.LayerNorm(32),
        nn.Conv1d(8, 64, 3),
    ],
    ids=repr,
)
def test_a_source_that_cannot_be_scaled_is_refused(source: nn.Module) -> None:
    reader = linear()
    before = reader.weight.clone()
    with pytest.raises(CoverageError, match=f"a {type(source).__name__} without a weight for 64 outputs"):
        scale_between_(source, [reader], torch.full((64,), 2.0))
    assert reader.weight.equal(before)
