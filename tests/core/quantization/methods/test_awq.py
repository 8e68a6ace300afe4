"""AWQ's search against the formula of the paper, computed from the inputs themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import correlated, moments, normal
from sottovoce.quantization.methods.awq import scaling_factors, search_factors
from sottovoce.recipe.scheme import Scheme

FOUR = Scheme(bits=4, group_size=32)


def plain_rounding(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """A weight rounded to the nearest symmetric step of each group of inputs, scales in bfloat16."""
    groups = weight.reshape(len(weight), -1, group_size)
    scale = groups.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    short = scale.bfloat16()
    scale = torch.where(short.float() < scale, torch.nextafter(short, torch.tensor(9e9).bfloat16()), short).float()
    steps = (groups / scale).round().clamp(-(2 ** (bits - 1)) + (bits == 8), 2 ** (bits - 1) - 1)
    return (steps * scale).reshape(weight.shape)


def plain_search(weights: list[Tensor], bits: list[int], x: Tensor) -> tuple[list[float], list[Tensor]]:
    """``||Q(W s) (x / s) - W x||`` squared for every power, with the factors."""
    magnitude, errors, factors = x.abs().mean(0), [], []
    for number in range(20):
        scales = magnitude.pow(number / 20).clamp(min=1e-4)
        scales = scales / (scales.max() * scales.min()).sqrt()
        errors.append(
            sum(
                float(((x / scales) @ plain_rounding(weight * scales, width, 32).t() - x @ weight.t()).square().sum())
                for weight, width in zip(weights, bits, strict=True)
            )
        )
        factors.append(scales)
    return errors, factors


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bits", [[4], [4, 4], [4, 8], [2, 3]])
def test_the_factors_are_those_with_the_least_output_error(bits: list[int], seed: int) -> None:
    x = correlated(300, 64, seed)
    weights = [normal(24, 64, seed=seed + number) for number in range(len(bits))]
    schemes = [Scheme(bits=width, group_size=32) for width in bits]  # type: ignore[arg-type]
    found, power = search_factors(weights, schemes, moments(x), x.abs().mean(0))
    errors, factors = plain_search(weights, bits, x)
    best = min(range(20), key=errors.__getitem__)
    assert power == best / 20
    assert torch.allclose(found, factors[best], rtol=1e-4)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), outliers=st.integers(0, 4), size=st.floats(1, 300), search=st.booleans())
def test_scaling_is_never_worse_than_none(seed: int, outliers: int, size: float, search: bool) -> None:
    from sottovoce.runtime.qparams import compute_qparams

    x, weight = normal(100, 64, seed=seed), normal(16, 64, seed=seed + 1)
    x[:, :outliers] *= size
    factors, _ = search_factors([weight], [FOUR], moments(x), x.abs().mean(0), search=search)

    def error(scales: Tensor) -> float:
        qparams = compute_qparams(weight * scales, FOUR, search=search)
        return float((x @ (qparams.dequantize(qparams.quantize(weight * scales)) / scales - weight).t()).square().sum())

    assert error(factors) <= error(torch.ones(64)) * (1 + 1e-4)


def test_an_input_that_stands_out_gets_finer_steps() -> None:
    x = normal(200, 64)
    x[:, 5] *= 50
    factors, power = search_factors([normal(24, 64, seed=1)], [FOUR], moments(x), x.abs().mean(0))
    assert power > 0
    assert int(factors.argmax()) == 5
    assert factors[5] > 1


def test_inputs_alike_are_not_scaled() -> None:
    factors, power = search_factors([normal(8, 64)], [FOUR], torch.eye(64), torch.ones(64))
    assert power == 0
    assert factors.equal(torch.ones(64))


@given(power=st.floats(0, 0.95), seed=st.integers(0, 99), dead=st.integers(0, 64))
def test_factors_lie_around_one(power: float, seed: int, dead: int) -> None:
    magnitude = normal(64, seed=seed).abs()
    magnitude[:dead] = 0
    factors = scaling_factors(magnitude, power)
    assert factors.isfinite().all()
    assert (factors > 0).all()
    assert float(factors.max() * factors.min()) == pytest.approx(1, rel=1e-3)
