"""Removal of experts is exact, gates are rescaled, and the change of the output is measured."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.drawn import normal
from core.mixtures import Mixture, make_mixture, route
from sottovoce.calibration.routing import Routed
from sottovoce.errors import CoverageError
from sottovoce.experts.gate_rescaling import gate_rescale, normalizes_gates, rescale_experts_
from sottovoce.experts.output_change import compare_outputs, routed_output
from sottovoce.experts.removal import prune_experts_in_layer_


@given(
    seed=st.integers(0, 99),
    kept=st.sets(st.integers(0, 7), min_size=3).map(sorted),
    top_k=st.integers(1, 3),
    norm_topk_prob=st.booleans(),
)
def test_pruned_layer_equals_the_whole_with_removed_logits_masked(
    seed: int, kept: list[int], top_k: int, norm_topk_prob: bool
) -> None:
    whole, pruned = (make_mixture(8, top_k, seed=seed, norm_topk_prob=norm_topk_prob).double() for _ in range(2))
    prune_experts_in_layer_(pruned.experts, pruned.gate, kept)
    whole.gate.masked = [number for number in range(8) if number not in kept]
    hidden = normal(2, 20, 16, seed=seed).double()
    _, old, old_index = whole.gate(hidden)
    _, new, new_index = pruned.gate(hidden)
    assert torch.tensor(kept)[new_index].equal(old_index)
    assert torch.allclose(new, old, rtol=1e-12)
    assert torch.allclose(pruned(hidden), whole(hidden), rtol=1e-11)


def test_kept_experts_and_router_rows_are_unchanged() -> None:
    mixture = make_mixture()
    experts, rows = list(mixture.experts), mixture.gate.weight.clone()
    mixture.gate.register_buffer("e_score_correction_bias", torch.arange(8.0))
    mixture.gate.bias = nn.Parameter(torch.arange(8.0), requires_grad=False)
    mixture.gate.register_buffer("temperature", torch.tensor(3.0))
    prune_experts_in_layer_(mixture.experts, mixture.gate, [1, 4, 6])
    assert list(mixture.experts) == [experts[1], experts[4], experts[6]]
    assert [name for name, _ in mixture.experts.named_children()] == ["0", "1", "2"]
    assert mixture.gate.weight.equal(rows[[1, 4, 6]])
    assert isinstance(mixture.gate.weight, nn.Parameter)
    assert not mixture.gate.weight.requires_grad
    assert mixture.gate.bias.tolist() == mixture.gate.e_score_correction_bias.tolist() == [1, 4, 6]
    assert "e_score_correction_bias" in dict(mixture.gate.named_buffers())
    assert mixture.gate.temperature == 3
    assert mixture.gate.num_experts == mixture.experts.num_experts == 3
    assert mixture.gate.top_k == 2


def test_keeping_all_experts_changes_nothing() -> None:
    mixture, hidden = make_mixture(), normal(20, 16)
    before = mixture(hidden)
    prune_experts_in_layer_(mixture.experts, mixture.gate, range(8))
    assert mixture(hidden).equal(before)


def test_meta_tensors_are_pruned_without_data() -> None:
    mixture = make_mixture().to("meta")
    prune_experts_in_layer_(mixture.experts, mixture.gate, range(3))
    assert mixture.gate.weight.shape == (3, 16)
    assert mixture.gate.weight.is_meta
    assert len(mixture.experts) == 3


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        ([1], "1 expert would stay, and a token is routed to 2"),
        ([], "numbers from 0 to 7"),
        ([2, 1], "in rising order"),
        ([1, 1, 2], "in rising order"),
        ([-1, 2], "numbers from 0 to 7"),
        ([1, 8], "numbers from 0 to 7"),
    ],
)
def test_invalid_numbers_of_experts_are_refused(kept: list[int], problem: str) -> None:
    mixture = make_mixture()
    with pytest.raises(CoverageError, match=problem):
        prune_experts_in_layer_(mixture.experts, mixture.gate, kept)
    assert len(mixture.experts) == 8


def test_router_of_another_layer_or_with_groups_is_refused() -> None:
    mixture = make_mixture()
    with pytest.raises(CoverageError, match="the router has 6 rows and the layer 8 experts"):
        prune_experts_in_layer_(mixture.experts, make_mixture(6).gate, [1, 2])
    mixture.gate.n_group = 4
    with pytest.raises(CoverageError, match="among 4 groups"):
        prune_experts_in_layer_(mixture.experts, mixture.gate, [1, 2])


class TestGateRescale:
    @staticmethod
    def prune(kept: list[int], norm_topk_prob: bool = False, tokens: int = 80) -> tuple[Mixture, Routed]:
        mixture = make_mixture(norm_topk_prob=norm_topk_prob)
        routed = route(mixture, tokens)
        prune_experts_in_layer_(mixture.experts, mixture.gate, kept)
        return mixture, routed

    def test_factor_is_the_mean_of_old_over_new_gates(self) -> None:
        kept = [0, 2, 3, 5, 7]
        mixture, routed = self.prune(kept)
        found = gate_rescale(mixture.gate, routed, kept)
        assert found is not None
        _, weight, index = mixture.gate(routed.hidden)
        for place, number in enumerate(kept):
            ratios = []
            for token in range(len(routed)):
                old = [float(routed.weight[token, slot]) for slot in range(2) if routed.index[token, slot] == number]
                new = [float(weight[token, slot]) for slot in range(2) if index[token, slot] == place]
                ratios.extend(one / other for one, other in zip(old, new[: len(old)], strict=True))
            assert float(found[place]) == pytest.approx(sum(ratios) / len(ratios))
        assert (found < 1).all()

    def test_rescaling_restores_the_size_of_the_outputs(self) -> None:
        mixture, kept = make_mixture(norm_topk_prob=False), [0, 2, 3, 5, 7]
        for expert in mixture.experts[1:]:
            # Alike, so that nothing is lost but the sum of the gates.
            expert.load_state_dict(mixture.experts[0].state_dict())
        mixture.gate.weight /= 5
        routed = route(mixture, 80)
        before = routed_output(mixture.experts, mixture.gate, routed.hidden)
        prune_experts_in_layer_(mixture.experts, mixture.gate, kept)
        grown = compare_outputs(before, routed_output(mixture.experts, mixture.gate, routed.hidden))
        factors = gate_rescale(mixture.gate, routed, kept)
        assert factors is not None
        rescale_experts_(mixture.experts, factors)
        rescaled = compare_outputs(before, routed_output(mixture.experts, mixture.gate, routed.hidden))
        assert grown.norm_after > 1.2 * grown.norm_before
        # Tokens that lost one of their experts had more from it than they have from the one in its place.
        assert 0.85 < rescaled.norm_after / rescaled.norm_before < 1
        assert rescaled.error < grown.error / 2

    def test_expert_without_tokens_gets_the_mean_factor(self) -> None:
        mixture = make_mixture(norm_topk_prob=False)
        routed = route(mixture, 60)
        lonely = int(routed.index[0, 0])
        rows = (routed.index != lonely).all(1)
        routed = Routed(routed.hidden[rows], routed.index[rows], routed.weight[rows], routed.modality[rows], ("a", "b"))
        kept = sorted({lonely, 1, 2, 3, 6})
        prune_experts_in_layer_(mixture.experts, mixture.gate, kept)
        found = gate_rescale(mixture.gate, routed, kept)
        assert found is not None
        own = found[kept.index(lonely)]
        others = found[[place for place, number in enumerate(kept) if number != lonely]]
        assert others.min() < own < others.max()

    def test_normalizing_router_needs_no_factors(self) -> None:
        mixture, routed = self.prune([1, 2, 4], norm_topk_prob=True)
        assert gate_rescale(mixture.gate, routed, [1, 2, 4]) is None
        del mixture.gate.norm_topk_prob
        assert normalizes_gates(mixture.gate, routed)

    def test_router_without_the_setting_is_judged_by_its_gates(self) -> None:
        mixture, routed = self.prune([1, 2, 4])
        del mixture.gate.norm_topk_prob
        assert not normalizes_gates(mixture.gate, routed)

    def test_no_tokens_give_no_factors(self) -> None:
        mixture, routed = self.prune([1, 2, 4], tokens=0)
        assert gate_rescale(mixture.gate, routed, [1, 2, 4]) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rescaling_an_expert_scales_its_output(dtype: torch.dtype) -> None:
    mixture = make_mixture(4, dtype=dtype)
    x = normal(9, 16).to(dtype)
    before = [expert(x) for expert in mixture.experts]
    rescale_experts_(mixture.experts, torch.tensor([0.5, 2, 1, 0.25], dtype=torch.float64))
    for factor, old, expert in zip((0.5, 2, 1, 0.25), before, mixture.experts, strict=True):
        assert expert(x).equal(old * factor)


def test_quantized_expert_is_not_rescaled() -> None:
    mixture = make_mixture(4)
    mixture.experts[2].down_proj = nn.Identity()
    with pytest.raises(CoverageError, match="down_proj of an expert is of the class Identity, not a float"):
        rescale_experts_(mixture.experts, torch.ones(4))


@given(seed=st.integers(0, 99), tokens=st.integers(1, 30), noise=st.floats(0, 2))
def test_output_error_is_the_relative_squared_error(seed: int, tokens: int, noise: float) -> None:
    before = normal(tokens, 8, seed=seed)
    after = before + noise * normal(tokens, 8, seed=seed + 1)
    found = compare_outputs(before, after)
    error = sum(
        (one - other) ** 2 for one, other in zip(before.flatten().tolist(), after.flatten().tolist(), strict=True)
    )
    assert found.error == pytest.approx(error / sum(one**2 for one in before.flatten().tolist()), rel=1e-5, abs=1e-12)
    assert found.norm_before == pytest.approx(float(before.norm(dim=1).mean()), rel=1e-5)
    assert found.norm_after == pytest.approx(float(after.norm(dim=1).mean()), rel=1e-5)


def test_output_error_in_parts_equals_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = normal(50, 4), normal(50, 4, seed=1)
    whole = compare_outputs(before, after)
    monkeypatch.setattr("sottovoce.experts.output_change._TOKENS", 7)
    assert compare_outputs(before, after).error == pytest.approx(whole.error)
    assert compare_outputs(before, before).error == 0
    assert compare_outputs(before[:0], after[:0]).error == 0
