"""Skipping experts: against a computation token by token, and what really runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.drawn import normal
from core.mixtures import Mixture, make_experts, make_mixture
from sottovoce.architecture import ExpertLayout
from sottovoce.errors import CheckpointError
from sottovoce.runtime.expert_skipping import counting_expert_runs, install_skipping_
from sottovoce.runtime.experts import Experts, assigned
from sottovoce.runtime.skipping_rule import NOT_RUN, Skipping

TINY = 1e-30


def routing(tokens: int, top_k: int, seed: int = 0, experts: int = 8, normalized: bool = True) -> tuple[Tensor, Tensor]:
    """Experts and gate values as a router gives them: no expert twice, the largest gate first."""
    gates, index = normal(tokens, experts, seed=seed).mul(2).softmax(-1).topk(top_k)
    return index, gates / gates.sum(-1, keepdim=True) if normalized else gates


def by_token(experts: Experts, hidden: Tensor, index: Tensor, gates: Tensor, skipping: Skipping) -> Tensor:
    """What the docstrings say, in double precision."""
    rows = []
    for x, numbers, given_gates in zip(hidden, index.tolist(), gates.tolist(), strict=True):
        bound = torch.tensor(skipping.threshold, dtype=torch.float32) * max(given_gates)
        stays = [(number, gate) for number, gate in zip(numbers, given_gates, strict=True) if gate >= float(bound)]
        growth = sum(given_gates) / sum(gate for _, gate in stays) if skipping.renormalize else 1.0
        rows.append(
            sum((experts[number](x[None])[0].double() * gate * growth for number, gate in stays), torch.zeros(1))
        )
    return torch.stack(rows)


@contextmanager
def rows_of(experts: Experts) -> Iterator[list[int]]:
    """How many rows each expert is given."""
    rows = [0] * len(experts)

    def count(number: int) -> Any:
        def note(_: Any, arguments: tuple[Tensor]) -> None:
            rows[number] += len(arguments[0])

        return note

    handles = [expert.register_forward_pre_hook(count(number)) for number, expert in enumerate(experts)]
    yield rows
    for handle in handles:
        handle.remove()


@settings(max_examples=40, deadline=None)
@given(
    threshold=st.floats(0.01, 0.99),
    top_k=st.integers(1, 6),
    tokens=st.integers(0, 12),
    seed=st.integers(0, 999),
    renormalize=st.booleans(),
    normalized=st.booleans(),
)
def test_skipping_is_what_it_says_of_a_token(
    threshold: float, top_k: int, tokens: int, seed: int, renormalize: bool, normalized: bool
) -> None:
    experts, skipping = make_experts(), Skipping(threshold, renormalize)
    index, gates = routing(tokens, top_k, seed, normalized=normalized)
    hidden = normal(tokens, 16, seed=seed + 1)
    experts.skipping = skipping
    with rows_of(experts) as rows, torch.no_grad():
        found = experts(hidden, index, gates)
    stays = ~skipping.skipped(gates)
    assert bool(stays[:, :1].all())
    assert rows == torch.bincount(index[stays], minlength=8).tolist()
    if tokens:
        with torch.no_grad():
            assert torch.allclose(found.double(), by_token(experts, hidden, index, gates, skipping), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("renormalize", [True, False])
def test_what_skips_nothing_changes_nothing(dtype: torch.dtype, renormalize: bool) -> None:
    experts, (index, gates) = make_experts(dtype=dtype), routing(50, 4)
    hidden = normal(50, 16).to(dtype)
    with torch.no_grad():
        whole = experts(hidden, index, gates.to(dtype))
        experts.skipping = Skipping(TINY, renormalize)
        assert experts(hidden, index, gates.to(dtype)).equal(whole)


@torch.no_grad()
def test_nearly_one_leaves_one_expert_with_all_the_weight() -> None:
    experts, (index, gates) = make_experts(), routing(50, 4)
    hidden = normal(50, 16)
    experts.skipping = Skipping(1 - 1e-6, renormalize=True)
    with rows_of(experts) as rows:
        found = experts(hidden, index, gates)
    assert sum(rows) == 50
    experts.skipping = None
    assert torch.allclose(found, experts(hidden, index[:, :1], torch.ones(50, 1)), atol=1e-6)


@pytest.mark.parametrize("renormalize", [True, False])
def test_the_gates_keep_their_sum_or_their_values(renormalize: bool) -> None:
    index, gates = routing(50, 4, normalized=False)
    numbers, made = Skipping(0.5, renormalize)(index, gates)
    left = made.masked_fill(numbers == NOT_RUN, 0)
    assert 0 < int((numbers == NOT_RUN).sum()) < numbers.numel()
    assert torch.allclose(left.sum(-1), gates.sum(-1)) == renormalize
    assert made.equal(gates) != renormalize


def test_gates_that_are_zero_or_no_numbers() -> None:
    gates = torch.tensor([[0.0, 0.0], [torch.nan, 0.1], [1.0, 0.0]])
    index, made = Skipping(0.5, renormalize=True)(torch.tensor([[1, 2], [3, 4], [5, 6]]), gates)
    assert index.tolist() == [[1, 2], [3, 4], [5, NOT_RUN]]
    assert made[0].tolist() == [0.0, 0.0]
    assert bool(made[1].isnan().all())


def test_experts_that_do_not_run_are_assigned_to_none() -> None:
    index = torch.tensor([[2, NOT_RUN], [NOT_RUN, NOT_RUN], [0, 2]])
    found = [(number, rows.tolist(), slots.tolist()) for number, rows, slots in assigned(index)]
    assert found == [(0, [2], [0]), (2, [0, 2], [0, 1])]
    assert not list(assigned(index[1:2]))


@torch.no_grad()
def test_runs_are_counted_while_somebody_asks() -> None:
    model = torch.nn.ModuleList(make_mixture(top_k=2, seed=seed) for seed in range(2))
    hidden = normal(1, 30, 16)
    with counting_expert_runs(model) as whole:
        assert whole.per_token is None
        for mixture in model:
            mixture(hidden)
    assert (whole.tokens, whole.per_token) == (60, 2)
    for mixture in model:
        assert isinstance(mixture, Mixture)
        mixture.experts.skipping = Skipping(0.6)
    with counting_expert_runs(model) as some, rows_of(model[0].experts) as first:  # type: ignore[arg-type]
        model[0](hidden)
    model[0](hidden)
    assert (some.tokens, some.runs) == (30, sum(first))
    assert some.per_token is not None
    assert 1 < some.per_token < 2


def test_counting_ends_with_an_error() -> None:
    mixture = make_mixture()
    with pytest.raises(ZeroDivisionError), counting_expert_runs(mixture):
        raise ZeroDivisionError
    assert mixture.experts.counted is None


LAYOUTS = (
    ExpertLayout(part="reader", experts="re:0.experts", count="text_config.num_experts"),
    ExpertLayout(part="speaker", experts="re:1.experts", count="speaker_config.num_experts"),
)


def installed(text: dict[str, Any], speaker: dict[str, Any] | None = None) -> tuple[Any, ...]:
    model = torch.nn.ModuleList(make_mixture(seed=seed) for seed in range(2))
    config = SimpleNamespace(text_config=SimpleNamespace(num_experts=8, **text))
    if speaker is not None:
        config.speaker_config = SimpleNamespace(num_experts=8, **speaker)
    names = install_skipping_(model, config, LAYOUTS)
    return names, *(mixture.experts.skipping for mixture in model)


def test_the_configuration_says_who_skips() -> None:
    assert installed({}, {}) == ((), None, None)
    assert installed({"expert_skip_threshold": 0.3}) == (("0.experts",), Skipping(0.3), None)
    half = {"expert_skip_threshold": 0.5, "expert_skip_renormalize": False}
    both = installed({"expert_skip_threshold": 0.3, "expert_skip_renormalize": True}, half)
    assert both == (("0.experts", "1.experts"), Skipping(0.3, renormalize=True), Skipping(0.5, renormalize=False))


@pytest.mark.parametrize("threshold", [0, 1, 1.0, -0.5, True, "0.5", float("nan"), float("inf"), [0.5]])
def test_a_threshold_that_is_none_is_refused(threshold: Any) -> None:
    with pytest.raises(CheckpointError, match="expert_skip_threshold must be a number between 0 and 1"):
        installed({"expert_skip_threshold": threshold})


def test_renormalize_is_yes_or_no() -> None:
    with pytest.raises(CheckpointError, match="expert_skip_renormalize must be true or false, not 1"):
        installed({"expert_skip_threshold": 0.5, "expert_skip_renormalize": 1})
