"""The rotary embedding by halves turns queries and keys as the library's does."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

from sottovoce_forced_aligner import normalization, rotary

CONFIG = Qwen3Config(
    hidden_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    num_hidden_layers=1,
    attn_implementation="sdpa",
)


def layer(dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    torch.manual_seed(0)
    return Qwen3Attention(CONFIG, 0).to(dtype).requires_grad_(False).eval()


def inputs(
    dtype: torch.dtype = torch.bfloat16, batch: int = 2
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    x = torch.randn(batch, 9, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    places = torch.stack([torch.arange(9) + 5 * number for number in range(batch)])
    return x, Qwen3RotaryEmbedding(CONFIG)(x, places)


def run(attention: nn.Module, x: torch.Tensor, places: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = attention(x, places, None)[0]
    return found


def test_attention_is_the_librarys_but_for_roundings(kernels: str) -> None:
    theirs = layer()
    mine = copy.deepcopy(theirs)
    assert rotary.install_(mine)
    x, places = inputs()
    exact = run(copy.deepcopy(theirs).float(), x.float(), tuple(table.float() for table in places))  # type: ignore[arg-type]
    want, found = ((run(each, x, places).float() - exact).norm() for each in (theirs, mine))
    if kernels == "numba":
        assert run(mine, x, places).equal(run(theirs, x, places))
    else:
        assert not run(mine, x, places).equal(run(theirs, x, places)), "nothing was done otherwise"
    assert found < 1.1 * want
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert isinstance(mine, Qwen3Attention)


def test_other_dtypes_and_gradients_are_left_to_the_library(kernels: str) -> None:
    theirs, (x, places) = layer(torch.float32), inputs(torch.float32)
    mine = copy.deepcopy(theirs)
    assert rotary.install_(mine)
    assert run(mine, x, places).equal(run(theirs, x, places))
    theirs, (x, places) = layer().requires_grad_(True), inputs()
    mine = copy.deepcopy(theirs)
    assert rotary.install_(mine)
    assert run(mine, x, places).equal(run(theirs, x, places))


def test_the_librarys_own_function_stays() -> None:
    from transformers.models.qwen3 import modeling_qwen3

    before = modeling_qwen3.apply_rotary_pos_emb
    assert rotary.install_(layer())
    assert modeling_qwen3.apply_rotary_pos_emb is before


@pytest.mark.parametrize("other", [nn.Linear(4, 4), nn.ReLU()])
def test_layers_without_a_rotary_embedding_are_left_alone(other: nn.Module) -> None:
    kind = type(other)
    assert not rotary.install_(other)
    assert type(other) is kind


def test_optimized_layers_are_copied_and_pickled(kernels: str) -> None:
    attention, (x, places) = layer(), inputs()
    assert rotary.install_(attention)
    assert normalization.install_(attention.q_norm)  # type: ignore[arg-type]
    want = run(attention, x, places)
    for again in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert type(again) is type(attention)
        assert type(again.q_norm) is type(attention.q_norm)
        assert run(again, x, places).equal(want)
