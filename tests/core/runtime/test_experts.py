"""Experts as linear layers: they compute what the fused ones compute, under the names that checkpoints have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.drawn import normal
from core.mixtures import make_experts, make_mixture, route
from sottovoce.errors import CoverageError
from sottovoce.runtime.experts import PROJECTIONS, Expert, Experts, assigned, experts_in, unfuse_


class Fused(nn.Module):
    """Experts as transformers holds them."""

    def __init__(self, count: int, width: int, inner: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter((normal(count, 2 * inner, width, seed=seed) / width**0.5).to(dtype))
        self.down_proj = nn.Parameter((normal(count, width, inner, seed=seed + 1) / inner**0.5).to(dtype))
        self.act_fn = nn.SiLU()

    def forward(self, hidden: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Every expert on every token, the plainest way."""
        output = torch.zeros_like(hidden)
        for token in range(len(hidden)):
            for slot in range(index.shape[1]):
                expert = int(index[token, slot])
                gate, up = (self.gate_up_proj[expert] @ hidden[token]).chunk(2)
                output[token] += weight[token, slot] * (self.down_proj[expert] @ (self.act_fn(gate) * up))
        return output


@st.composite
def choices(draw: Any) -> tuple[int, Tensor]:
    """How many experts there are, and what a router may choose: different experts for each token."""
    count = draw(st.integers(1, 7))
    top_k = draw(st.integers(1, count))
    tokens = draw(st.integers(1, 12))
    rows = [draw(st.permutations(range(count)))[:top_k] for _ in range(tokens)]
    return count, torch.tensor(rows, dtype=torch.int64)


@given(choices())
def test_every_expert_gets_the_tokens_that_a_plain_loop_gives_it(chosen: tuple[int, Tensor]) -> None:
    count, index = chosen
    plain = {}
    for expert in range(count):
        places = [
            (row, slot) for row, found in enumerate(index.tolist()) for slot, one in enumerate(found) if one == expert
        ]
        if places:
            plain[expert] = places
    found = {number: list(zip(rows.tolist(), slots.tolist(), strict=True)) for number, rows, slots in assigned(index)}
    assert found == plain
    assert list(found) == sorted(found)


@given(choices(), st.integers(0, 5))
def test_experts_compute_what_the_fused_ones_compute(chosen: tuple[int, Tensor], seed: int) -> None:
    count, index = chosen
    fused = Fused(count, 8, 6, seed=seed).requires_grad_(False)
    hidden, weight = normal(len(index), 8, seed=seed), normal(*index.shape, seed=seed + 2).abs()
    made = Experts.from_fused(fused)
    assert torch.allclose(made(hidden, index, weight), fused(hidden, index, weight), atol=1e-5)


def test_no_tokens_give_no_outputs() -> None:
    made = make_experts(4)
    nothing = made(torch.zeros(0, 16), torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 2))
    assert nothing.shape == (0, 16)


def test_an_expert_runs_on_its_own_tokens_alone() -> None:
    made, given_to = make_experts(5), {}
    for number, expert in enumerate(made):
        expert.register_forward_pre_hook(lambda _, x, to=number: given_to.__setitem__(to, x[0]))
    hidden = normal(3, 16)
    made(hidden, torch.tensor([[0, 3], [3, 1], [0, 1]]), torch.ones(3, 2))
    assert set(given_to) == {0, 1, 3}
    assert given_to[3].equal(hidden[[0, 1]])
    assert given_to[0].equal(hidden[[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_copies_of_the_fused_parts(dtype: torch.dtype) -> None:
    fused = Fused(3, 8, 6, dtype)
    made = Experts.from_fused(fused)
    assert [name for name, _ in made.named_parameters()] == [
        f"{number}.{name}.weight" for number in range(3) for name in PROJECTIONS
    ]
    for number, expert in enumerate(made):
        assert isinstance(expert, Expert)
        together = torch.cat((expert.gate_proj.weight, expert.up_proj.weight))
        assert together.equal(fused.gate_up_proj[number])
        assert expert.down_proj.weight.equal(fused.down_proj[number])
        assert together.dtype == dtype
        assert not any(weight.requires_grad for weight in expert.parameters())
    before = made[0].gate_proj.weight.clone()
    with torch.no_grad():
        fused.gate_up_proj.zero_()
    assert made[0].gate_proj.weight.equal(before)
    assert made.num_experts == len(made) == 3


def test_without_data_there_is_none_to_copy() -> None:
    made = Experts.from_fused(Fused(3, 8, 6).to("meta").eval())
    assert all(weight.is_meta for weight in made.parameters())
    assert not made.training


def test_half_precision_outputs_keep_their_type() -> None:
    made = make_experts(4, dtype=torch.bfloat16)
    index, weight = torch.tensor([[0, 3], [2, 1]]), torch.rand(2, 2, generator=torch.Generator().manual_seed(0))
    assert made(normal(2, 16).bfloat16(), index, weight).dtype == torch.bfloat16


def changed(**parts: Any) -> nn.Module:
    fused = Fused(3, 8, 6)
    for name, part in parts.items():
        delattr(fused, name)
        if part is not None:
            setattr(fused, name, nn.Parameter(part) if isinstance(part, Tensor) else part)
    return fused


@pytest.mark.parametrize(
    "fused",
    [
        changed(gate_up_proj=None),
        changed(down_proj=None),
        changed(gate_up_proj=normal(12, 8)),
        changed(down_proj=normal(3, 8, 6, 1)),
        changed(gate_up_proj=normal(3, 8, 12)),
        changed(down_proj=normal(3, 6, 8)),
        changed(gate_up_proj=normal(3, 10, 8)),
        changed(down_proj=nn.Linear(6, 8)),
        nn.ModuleList([nn.Linear(2, 2)]),
    ],
    ids=["no gate", "no down", "flat", "deep", "turned gate", "turned down", "other inner", "a layer", "a list"],
)
def test_another_layout_is_refused(fused: nn.Module) -> None:
    with pytest.raises(CoverageError, match=r"the experts 'a\.b' \(\w+\) are not laid out as") as caught:
        Experts.from_fused(fused, "a.b")
    assert "\n" not in str(caught.value)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts, self.other = Fused(2, 8, 6), Fused(2, 8, 6)


def layout(pattern: str) -> Any:
    return SimpleNamespace(experts=pattern)


def test_only_the_modules_of_a_layout_are_taken_apart() -> None:
    model = nn.ModuleList([Layer(), Layer()])
    assert unfuse_(model, [layout(r"re:\d+\.experts")]) == ("0.experts", "1.experts")
    assert [name for name, _ in experts_in(model)] == ["0.experts", "1.experts"]
    assert [name for name, _ in experts_in(model, "model.layers")] == [
        "model.layers.0.experts",
        "model.layers.1.experts",
    ]
    assert isinstance(model.get_submodule("0.other"), Fused)
    # Once more changes nothing.
    kept = model.get_submodule("0.experts")
    assert unfuse_(model, [layout(r"re:\d+\.experts")]) == ()
    assert model.get_submodule("0.experts") is kept
    assert unfuse_(model, [layout("Fused")]) == ("0.other", "1.other")


def test_a_mixture_s_names_are_those_of_a_checkpoint() -> None:
    mixture = make_mixture(3)
    assert set(mixture.state_dict()) == {
        "gate.weight",
        *(f"experts.{number}.{name}.weight" for number in range(3) for name in PROJECTIONS),
    }
    tokens = route(mixture)
    assert mixture(tokens.hidden).shape == tokens.hidden.shape
