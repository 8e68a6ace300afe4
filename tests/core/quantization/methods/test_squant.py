"""SQuant takes one of the two nearest steps, so that the errors of neighbours and of rows cancel each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import name_of, normal
from sottovoce.quantization.methods.squant import GROUP, squant
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams, compute_qparams

SCHEMES = [
    Scheme(bits=bits, group_size=group_size, symmetric=symmetric)
    for bits in (8, 4, 3, 2)
    for group_size in (None, 64)
    for symmetric in (True, False)
]


def exact_steps(weight: Tensor, qparams: QuantizationParams) -> Tensor:
    """Where the weights lie between the steps, ``[out, in]``."""
    width = weight.shape[1] // qparams.scale.shape[1]
    scale = qparams.scale.repeat_interleave(width, 1)
    return weight / scale + (0 if qparams.zero_point is None else qparams.zero_point.repeat_interleave(width, 1))


def balanced(exact: list[float], limits: tuple[int, int]) -> list[int]:
    """One row as the paper says, weight by weight: to nearest, then flips in groups, then one flip in some groups."""
    exact = [min(max(value, limits[0]), limits[1]) for value in exact]
    steps = [round(value) for value in exact]
    errors = [step - value for step, value in zip(steps, exact, strict=True)]
    groups = [list(range(first, min(first + GROUP, len(exact)))) for first in range(0, len(exact), GROUP)]

    def flippable(members: list[int], sign: int) -> list[int]:
        found = [place for place in members if sign * errors[place] > 0]
        return sorted(found, key=lambda place: -sign * errors[place])

    def flip(place: int, sign: int) -> None:
        steps[place] -= sign
        errors[place] -= sign

    for members in groups:
        total = sum(errors[place] for place in members)
        sign = 1 if total > 0 else -1
        for place in flippable(members, sign)[: round(abs(total))]:
            flip(place, sign)
    total = sum(errors)
    sign = 1 if total > 0 else -1
    by_sum = sorted(groups, key=lambda members: -sign * sum(errors[place] for place in members))
    by_sum = [members for members in by_sum if sign * sum(errors[place] for place in members) > 0]
    for members in [members for members in by_sum if flippable(members, sign)][: round(abs(total))]:
        flip(flippable(members, sign)[0], sign)
    return steps


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
@pytest.mark.parametrize("width", [64, 192])
def test_it_is_the_published_rounding(scheme: Scheme, width: int) -> None:
    weight = normal(24, width)
    qparams = compute_qparams(weight, scheme)
    rows = exact_steps(weight, qparams).reshape(24 * qparams.scale.shape[1], -1)
    want = [balanced(row, (scheme.lowest, scheme.highest)) for row in rows.tolist()]
    assert squant(weight, qparams).reshape(rows.shape).tolist() == want


@settings(max_examples=60)
@given(
    scheme=st.sampled_from(SCHEMES),
    groups=st.integers(1, 5),
    rest=st.integers(0, 63),
    seed=st.integers(0, 999),
    search=st.booleans(),
)
def test_sums_of_errors_are_small(scheme: Scheme, groups: int, rest: int, seed: int, search: bool) -> None:
    weight = normal(7, 64 * groups + (0 if scheme.group_size else rest), seed=seed)
    qparams = compute_qparams(weight, scheme, search=search)
    steps, exact = squant(weight, qparams), exact_steps(weight, qparams)
    assert steps.dtype == torch.int8
    assert scheme.lowest <= int(steps.min())
    assert int(steps.max()) <= scheme.highest
    errors = steps - exact.clamp(scheme.lowest, scheme.highest)
    assert float(errors.abs().max()) < 1 + 1e-4
    assert float(errors.reshape(7 * qparams.scale.shape[1], -1).sum(-1).abs().max()) <= 0.5 + 1e-3


def test_what_inputs_have_in_common_is_kept() -> None:
    weight = normal(128, 256)
    qparams = compute_qparams(weight, Scheme(bits=8))
    inputs = normal(500, 256, seed=1) + 1
    outputs = inputs @ weight.t()
    lost, lost_by_nearest = (
        (inputs @ qparams.dequantize(steps).t() - outputs).square().mean()
        for steps in (squant(weight, qparams), qparams.quantize(weight))
    )
    assert lost < 0.6 * lost_by_nearest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_equal_weights_are_moved_one_by_one(dtype: torch.dtype) -> None:
    weight = torch.full((2, 64), 0.0049, dtype=dtype)
    weight[:, 0] = 1.27
    qparams = compute_qparams(weight, Scheme(bits=8))
    exact = exact_steps(weight.float(), qparams)
    assert (squant(weight, qparams) - exact).sum(1).abs().max() <= 0.5


def test_few_rows_at_a_time_give_what_all_together_give() -> None:
    weight = normal(600, 1024)
    qparams = compute_qparams(weight, Scheme(bits=8))
    together = squant(weight, qparams)
    assert together[300:301].equal(squant(weight[300:301], qparams.rows(slice(300, 301))))


def test_zeros_and_whole_steps_stay() -> None:
    weight = torch.zeros(3, 40)
    weight[1] = torch.arange(-20, 20) * 0.5
    qparams = compute_qparams(weight, Scheme(bits=8))
    assert squant(weight, qparams)[0].count_nonzero() == 0
    whole = qparams.dequantize(qparams.quantize(weight))
    assert squant(whole, qparams).equal(qparams.quantize(whole))


def test_a_weight_without_data_gives_steps_without_data() -> None:
    weight = torch.empty(4, 64, device="meta")
    steps = squant(weight, compute_qparams(weight, Scheme(bits=8)))
    assert steps.is_meta
    assert steps.shape == (4, 64)
