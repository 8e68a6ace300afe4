"""GPTQ against the equations of the paper, one column at a time, with the inverse itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.drawn import correlated, moments, normal
from sottovoce.calibration.output_error import squared_error
from sottovoce.quantization.methods.gptq import GPTQ, gptq, unit_factor
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams

SCHEMES = [
    Scheme(bits=4, group_size=group_size, symmetric=symmetric)
    for group_size in (None, 32)
    for symmetric in (True, False)
]


def plain_step(qparams: QuantizationParams, column: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """The nearest step of one column ``[out]`` and what it stands for."""
    group = index // qparams.scheme.group_size if qparams.scheme.group_size else 0
    scale = qparams.scale[:, group].double()
    zero = qparams.zero_point[:, group].double() if qparams.zero_point is not None else torch.zeros_like(scale)
    step = ((column / scale).round() + zero).clamp(qparams.scheme.lowest, qparams.scheme.highest)
    return step, (step - zero) * scale


def plain_gptq(weight: Tensor, hessian: Tensor, qparams: QuantizationParams, damping: float, act_order: bool) -> Tensor:
    """Equations 2 and 3: the best change of the columns that are left, then Gaussian elimination of the one rounded."""
    weight, hessian = weight.double().clone(), hessian.double()
    hessian = hessian + damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.double)
    left = list(range(len(hessian)))
    if act_order:
        left.sort(key=lambda index: -float(hessian[index, index]))
    inverse = torch.linalg.inv(hessian[left][:, left])
    steps = torch.zeros_like(weight)
    while left:
        index = left[0]
        steps[:, index], value = plain_step(qparams, weight[:, index], index)
        error = (weight[:, index] - value) / inverse[0, 0]
        weight[:, left] -= error[:, None] * inverse[0]
        inverse = (inverse - inverse[:, :1] @ inverse[:1] / inverse[0, 0])[1:, 1:]
        left = left[1:]
    return steps.to(torch.int8)


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether nearly all rows are the same; one value between two steps may fall either way, and its row with it."""
    return float((one == other).all(1).float().mean()) > 0.9


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("block_size", [1, 7, 32, 1000])
def test_steps_are_those_of_the_paper(scheme: Scheme, act_order: bool, block_size: int) -> None:
    weight, hessian = normal(40, 96), moments(correlated(300, 96))
    options = GPTQ(block_size=block_size, act_order=act_order)
    qparams = compute_qparams(weight, scheme)
    steps = gptq(weight, hessian, qparams, options)
    assert steps.dtype == torch.int8
    want = plain_gptq(weight, hessian, qparams, options.damping, act_order)
    assert alike(steps, want)
    assert not alike(steps, qparams.quantize(weight))


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize(
    "scheme", [*SCHEMES, Scheme(bits=8), Scheme(bits=3, group_size=32), Scheme(bits=2, group_size=16)], ids=str
)
def test_outputs_are_nearer_than_by_rounding_to_nearest(scheme: Scheme, search: bool) -> None:
    weight, x = normal(48, 128), correlated(500, 128)
    hessian = moments(x)
    qparams = compute_qparams(weight, scheme, search=search)
    steps = gptq(weight, hessian, qparams, GPTQ())
    nearest = qparams.quantize(weight)

    def plain(values: Tensor) -> float:
        return float(((x @ (weight - values).t()).square().sum(1)).mean())

    assert plain(qparams.dequantize(steps)) < 0.8 * plain(qparams.dequantize(nearest))
    assert squared_error(weight, qparams.dequantize(steps), hessian) == pytest.approx(
        plain(qparams.dequantize(steps)), rel=1e-3
    )


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_independent_inputs_leave_nothing_to_make_up_for(scheme: Scheme) -> None:
    weight = normal(16, 64)
    qparams = compute_qparams(weight, scheme)
    steps = gptq(weight, 3 * torch.eye(64), qparams, GPTQ())
    assert steps.equal(qparams.quantize(weight))


def test_inputs_that_are_always_zero_are_rounded_and_change_nothing() -> None:
    weight, x, scheme = normal(16, 64), correlated(200, 64), Scheme(bits=4, group_size=32)
    dead = torch.arange(0, 64, 5)
    x[:, dead] = 0
    qparams = compute_qparams(weight, scheme)
    steps = gptq(weight, moments(x), qparams, GPTQ())
    assert steps[:, dead].equal(qparams.quantize(weight)[:, dead])
    assert squared_error(weight, qparams.dequantize(steps), moments(x)) < squared_error(
        weight, qparams.dequantize(qparams.quantize(weight)), moments(x)
    )


def test_no_inputs_but_zeros_are_rounding_to_nearest() -> None:
    weight = normal(16, 64)
    qparams = compute_qparams(weight, Scheme(bits=4))
    steps = gptq(weight, torch.zeros(64, 64), qparams, GPTQ())
    assert steps.equal(qparams.quantize(weight))


def test_the_weight_and_the_moments_are_left_as_they_are() -> None:
    weight, hessian = normal(16, 64), moments(correlated(200, 64))
    hessian[3] = hessian[:, 3] = 0
    before = weight.clone(), hessian.clone()
    gptq(weight, hessian, compute_qparams(weight, Scheme(bits=4)), GPTQ())
    assert weight.equal(before[0])
    assert hessian.equal(before[1])


@pytest.mark.parametrize("size", [32, 1100])
def test_the_factor_is_that_of_the_damped_moments(size: int) -> None:
    hessian, order = moments(correlated(200, size)), torch.randperm(size)
    lower = unit_factor(hessian, order, 0.1).double().tril(-1) + torch.eye(size)
    damped = (hessian.double() + 0.1 * hessian.double().diagonal().mean() * torch.eye(size))[order][:, order]
    left = torch.linalg.solve_triangular(lower, damped, upper=False, unitriangular=True)
    middle = torch.linalg.solve_triangular(lower, left.t(), upper=False, unitriangular=True)
    assert torch.allclose(middle, middle.diagonal().diag(), atol=1e-4 * float(middle.diagonal().max()))


def test_damping_grows_until_the_moments_can_be_inverted() -> None:
    x = normal(1, 64).expand(100, 64)
    assert unit_factor(moments(x), torch.arange(64), 1e-12).tril().isfinite().all()
    weight = normal(16, 64)
    qparams = compute_qparams(weight, Scheme(bits=4))
    steps = gptq(weight, moments(x), qparams, GPTQ(damping=1e-12))
    assert squared_error(weight, qparams.dequantize(steps), moments(x)) < squared_error(
        weight, qparams.dequantize(qparams.quantize(weight)), moments(x)
    )


def test_what_damping_cannot_help_is_an_error() -> None:
    with pytest.raises(ArithmeticError, match="cannot be inverted"):
        unit_factor(-torch.eye(8), torch.arange(8), 0.01)
