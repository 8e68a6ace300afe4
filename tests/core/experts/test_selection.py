"""Which experts stay: ranks, protection, super experts, and how many."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.drawn import normal
from sottovoce.errors import RecipeError
from sottovoce.experts.saliency import Saliency
from sottovoce.experts.selection import choose_experts, find_super_experts, kept_count, ranking

KINDS = ("text", "audio", "image")


def saliency(experts: int, seed: int = 0, unseen: tuple[int, ...] = ()) -> Saliency:
    count = (normal(3, experts, seed=seed).abs() * 9).ceil().double()
    count[:, list(unseen)] = 0
    gate, norm, gated = (count * normal(3, experts, seed=seed + number).abs().double() for number in (1, 2, 3))
    return Saliency(KINDS, count, gate, norm, gated, largest=normal(experts, seed=seed + 4).abs().double())


def of_scores(scores: list[float], largest: list[float] | None = None) -> Saliency:
    """One kind of token, one token each."""
    row = torch.tensor([scores], dtype=torch.float64)
    found = torch.tensor(largest or [1.0] * len(scores), dtype=torch.float64)
    return Saliency(("text",), torch.ones_like(row), row, row, row, largest=found)


@pytest.mark.parametrize(
    ("keep", "experts", "want"),
    [(0.5, 128, 64), (0.75, 32, 24), (0.5, 5, 3), (0.49, 5, 2), (7, 8, 7), (8, 8, 8), (0.999, 16, 16), (2, 128, 2)],
)
def test_share_to_keep_is_rounded_to_nearest(keep: float, experts: int, want: int) -> None:
    assert kept_count(keep, experts, 2) == want


@pytest.mark.parametrize(("keep", "top_k"), [(1, 2), (0.1, 2), (9, 2), (0, 1), (-1, 1), (-0.5, 1), (0.0, 1), (True, 1)])
def test_keep_out_of_range_is_refused(keep: float, top_k: int) -> None:
    with pytest.raises(RecipeError, match=f"keep between {top_k} and 8") as caught:
        kept_count(keep, 8, top_k)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metric", ["reap", "mean-norm", "ean", "frequency"])
@given(seed=st.integers(0, 99), keep=st.integers(1, 12))
def test_best_experts_stay_without_protection(metric: str, seed: int, keep: int) -> None:
    found = saliency(12, seed)
    choice = choose_experts(found, keep, metric, super_experts=False)  # type: ignore[arg-type]
    score = found.score(metric).tolist()  # type: ignore[arg-type]
    plain = sorted(range(12), key=lambda expert: (-score[expert], expert))[:keep]
    assert choice.kept == tuple(sorted(plain))
    assert choice.protected == {}
    assert choice.super_experts == choice.notes == ()


@given(
    seed=st.integers(0, 99),
    keep=st.integers(1, 16),
    protect=st.dictionaries(st.sampled_from(KINDS), st.floats(0.01, 1), max_size=3),
    supers=st.booleans(),
)
def test_protection_is_kept_within_the_number(seed: int, keep: int, protect: dict[str, float], supers: bool) -> None:
    found = saliency(16, seed, unseen=(3, 7))
    choice = choose_experts(found, keep, "reap", protect, supers)
    assert len(choice.kept) == keep
    assert list(choice.kept) == sorted(set(choice.kept))
    wanted = {kind: ranking(found.score("reap", kind))[: math.ceil(share * 16)] for kind, share in protect.items()}
    wanted = {kind: {expert for expert in experts if expert not in (3, 7)} for kind, experts in wanted.items()}
    asked = set(find_super_experts(found.largest) if supers else ()).union(*wanted.values())
    if len(asked) <= keep:
        assert asked <= set(choice.kept)
        assert {kind: set(experts) for kind, experts in choice.protected.items()} == wanted
        assert choice.notes == ()
    else:
        assert set(choice.kept) <= asked
        assert f"only {keep} {'is' if keep == 1 else 'are'} kept" in choice.notes[0]
    assert choice == choose_experts(found, keep, "reap", protect, supers)


def test_protected_experts_stay_despite_low_scores() -> None:
    count = torch.tensor([[9, 9, 9, 9, 9.0], [0, 1, 0, 2, 0]], dtype=torch.float64)
    sums = torch.tensor([[9, 8, 7, 0.1, 6], [0, 0.1, 0, 0.4, 0]], dtype=torch.float64)
    found = Saliency(("text", "audio"), count, sums, sums, sums, largest=torch.ones(5, dtype=torch.float64))
    assert choose_experts(found, 3, protect={}).kept == (0, 1, 2)
    choice = choose_experts(found, 3, protect={"audio": 0.2})
    assert choice.kept == (0, 1, 3)
    assert choice.protected == {"audio": (3,)}
    # Three of five are asked for, and only two of them ever met such a token.
    assert choose_experts(found, 3, protect={"audio": 0.6}).protected == {"audio": (1, 3)}


def test_too_many_protected_experts_are_taken_in_turn() -> None:
    sums = torch.tensor([[6, 5, 4, 3, 2, 1.0], [1, 2, 3, 4, 5, 6]], dtype=torch.float64) * 10
    found = Saliency(("text", "audio"), torch.ones_like(sums), sums, sums, sums, largest=torch.ones(6).double())
    choice = choose_experts(found, 3, protect={"text": 0.5, "audio": 0.5})
    assert choice.kept == (0, 1, 5)
    assert choice.protected == {"text": (0, 1), "audio": (5,)}
    assert choice.notes == ("6 experts are super or protected, but only 3 are kept",)


def test_first_of_equal_experts_stays() -> None:
    assert choose_experts(of_scores([1.0] * 6), 2).kept == (0, 1)


def test_super_expert_stays_despite_low_saliency() -> None:
    found = of_scores([5, 4, 3, 0], largest=[1, 2, 1, 40])
    assert choose_experts(found, 2).kept == (0, 3)
    assert choose_experts(found, 2).super_experts == (3,)
    assert choose_experts(found, 2, super_experts=False).kept == (0, 1)
    assert choose_experts(found, 2, largest_so_far=401).kept == (0, 1)
    assert choose_experts(found, 2, largest_so_far=399).kept == (0, 3)


def test_protected_share_is_not_rounded_up_by_float_error() -> None:
    found = of_scores([float(number) for number in range(30)])
    assert len(choose_experts(found, 30, protect={"text": 0.1}).protected["text"]) == 3
    assert len(choose_experts(found, 30, protect={"text": 0.11}).protected["text"]) == 4


@pytest.mark.parametrize(
    ("largest", "want"),
    [
        ([1, 1, 1, 1], ()),
        ([1, 1, 1, 10], ()),
        ([1, 1, 1, 10.1], (3,)),
        ([200, 1, 1, 1, 90, 1], (0, 4)),
        ([200, 1, 1, 1, 19, 1], (0,)),
        ([0, 0, 0, 5], ()),
        ([0, 0, 0, 0], ()),
    ],
)
def test_super_experts_exceed_both_bounds(largest: list[float], want: tuple[int, ...]) -> None:
    assert find_super_experts(torch.tensor(largest, dtype=torch.float64)) == want


def test_protecting_an_unmeasured_modality_is_refused() -> None:
    with pytest.raises(RecipeError, match="'video'; the kinds that were measured are text, audio, image"):
        choose_experts(saliency(4), 2, protect={"video": 0.1})
