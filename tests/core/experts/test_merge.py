"""Merging experts: neurons matched, weights weighted."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.drawn import normal
from core.mixtures import make_experts
from sottovoce.errors import CoverageError, SottovoceError
from sottovoce.experts.merge import match_neurons, merge_experts_, nearest_kept, router_similarity
from sottovoce.runtime.experts import PROJECTIONS, Expert


def shuffle_(expert: nn.Module, seed: int) -> None:
    """Another order of the hidden neurons, which computes the same."""
    assert isinstance(expert, Expert)
    order = torch.randperm(expert.gate_proj.out_features, generator=torch.Generator().manual_seed(seed))
    for name, layer in expert.named_children():
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(layer.weight[:, order] if name == "down_proj" else layer.weight[order])


def weights(expert: nn.Module) -> list[torch.Tensor]:
    return [expert.get_submodule(name).weight.clone() for name in PROJECTIONS]  # type: ignore[operator,union-attr]


@settings(max_examples=30)
@given(seed=st.integers(0, 99), scores=st.lists(st.floats(0, 9), min_size=3, max_size=3))
def test_permuted_neurons_are_matched_before_merging(seed: int, scores: list[float]) -> None:
    experts = make_experts(3, seed=seed)
    for number in (1, 2):
        experts[number].load_state_dict(experts[0].state_dict())
        shuffle_(experts[number], seed + number)
    before = weights(experts[0])
    homes = merge_experts_(experts, torch.tensor(scores), [0], torch.eye(3))
    assert homes == {1: 0, 2: 0}
    assert all(new.equal(old) for new, old in zip(weights(experts[0]), before, strict=True))


def test_weights_are_averaged_by_score() -> None:
    experts = make_experts(5, inner=6)
    for number in (1, 3, 4):
        # Nearly alike and in one order, so that the match is known.
        for name in PROJECTIONS:
            layer, own = experts[number].get_submodule(name), experts[0].get_submodule(name)
            layer.weight.copy_(own.weight + 0.01 * normal(*own.weight.shape, seed=number))  # type: ignore[operator,union-attr,arg-type]
    old = {number: weights(experts[number]) for number in range(5)}
    score = torch.tensor([1.0, 2, 7, 0, 5])
    similarity = torch.eye(5)
    similarity[1, 0] = similarity[3, 0] = similarity[4, 0] = 0.5
    shuffle_(experts[1], 3)
    assert merge_experts_(experts, score, [0, 2], similarity) == {1: 0, 3: 0, 4: 0}
    for place, found in enumerate(weights(experts[0])):
        want = (old[0][place] + 2 * old[1][place] + 5 * old[4][place]) / 8
        assert torch.allclose(found, want, rtol=1e-5, atol=1e-6)
    assert all(new.equal(was) for new, was in zip(weights(experts[2]), old[2], strict=True))


def test_experts_with_score_zero_are_not_merged() -> None:
    experts = make_experts(4)
    before = weights(experts[1])
    merge_experts_(experts, torch.zeros(4), [1], torch.eye(4))
    assert all(new.equal(old) for new, old in zip(weights(experts[1]), before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_keeps_dtype_and_parameters(dtype: torch.dtype) -> None:
    experts = make_experts(4, dtype=dtype)
    own = experts[0].gate_proj.weight
    merge_experts_(experts, torch.ones(4), [0, 1], router_similarity(normal(4, 16)))
    assert experts[0].gate_proj.weight is own
    assert own.dtype == dtype
    assert len(experts) == 4


def test_merging_moves_biases_with_their_neurons() -> None:
    experts = make_experts(2, inner=6)
    for number, expert in enumerate(experts):
        for place, name in enumerate(PROJECTIONS):
            layer = expert.get_submodule(name)
            size = layer.weight.shape[0]  # type: ignore[union-attr,index]
            layer.bias = nn.Parameter(normal(size, seed=place), requires_grad=False)  # type: ignore[arg-type,type-var]
        if number:
            expert.load_state_dict(experts[0].state_dict())
            order = torch.tensor([5, 3, 1, 0, 2, 4])
            for name, layer in expert.named_children():
                assert isinstance(layer, nn.Linear)
                layer.weight.copy_(layer.weight[:, order] if name == "down_proj" else layer.weight[order])
                if name != "down_proj":
                    layer.bias.copy_(layer.bias[order])
    before = {name: tensor.clone() for name, tensor in experts[0].state_dict().items()}
    merge_experts_(experts, torch.ones(2), [0], torch.eye(2))
    assert all(tensor.equal(before[name]) for name, tensor in experts[0].state_dict().items())


@pytest.mark.parametrize("seed", range(5))
def test_match_neurons_minimizes_the_distance_over_all_orders(seed: int) -> None:
    one, other = normal(5, 9, seed=seed), normal(5, 9, seed=seed + 50)
    found = match_neurons(one, other)

    def distance(order: tuple[int, ...]) -> float:
        return float((one[list(order)] - other).square().sum())

    assert sorted(found.tolist()) == list(range(5))
    assert distance(tuple(found.tolist())) == pytest.approx(min(map(distance, itertools.permutations(range(5)))))


def test_router_similarity_is_the_cosine() -> None:
    rows = torch.tensor([[1.0, 0], [2, 0], [-1, 0], [0, 3], [0, 0]])
    found = router_similarity(rows)
    assert found[0].tolist() == [1, 1, -1, 0, 0]
    assert found.equal(found.t())


@given(seed=st.integers(0, 99), kept=st.sets(st.integers(0, 5), min_size=1).map(sorted))
def test_nearest_kept_returns_the_most_similar_kept_expert(seed: int, kept: list[int]) -> None:
    similarity = router_similarity(normal(6, 4, seed=seed))
    homes = nearest_kept(similarity, kept)
    assert sorted(homes) == [number for number in range(6) if number not in kept]
    for number, home in homes.items():
        assert home == max(kept, key=lambda other: float(similarity[number, other]))


def test_merging_a_quantized_expert_is_refused() -> None:
    experts = make_experts(2)
    experts[1].up_proj = nn.Identity()
    with pytest.raises(CoverageError, match="the up_proj of an expert is of the class Identity"):
        merge_experts_(experts, torch.ones(2), [0], torch.eye(2))


def test_merging_without_scipy_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(SottovoceError, match="pip install scipy"):
        merge_experts_(make_experts(2), torch.ones(2), [0], torch.eye(2))
