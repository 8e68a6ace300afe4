"""The int8 table against a plain computation."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sottovoce.runtime.int8_embedding import Int8Embedding


@given(rows=st.integers(1, 20), width=st.integers(1, 40), seed=st.integers(0, 99), size=st.floats(1e-6, 1e6))
def test_a_row_is_within_half_a_step(rows: int, width: int, seed: int, size: float) -> None:
    table = nn.Embedding(rows, width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        table.weight.data = torch.randn(rows, width) * size
    made = Int8Embedding.from_float(table)
    step = table.weight.abs().amax(1, keepdim=True) / 127
    found = made(torch.arange(rows))
    assert found.dtype == torch.float32
    assert ((found - table.weight).abs() <= 0.51 * step).all()
    assert found.equal(made.dequantize()(torch.arange(rows)))


def test_a_row_of_zeros_stays() -> None:
    table = nn.Embedding(3, 4, padding_idx=1)
    made = Int8Embedding.from_float(table)
    assert not made(torch.tensor([1])).any()
    assert made.padding_idx == 1


def test_the_state_dict_round_trips_from_the_meta_device() -> None:
    made = Int8Embedding.from_float(nn.Embedding(5, 8))
    empty = Int8Embedding(5, 8, device="meta")
    empty.load_state_dict(made.state_dict(), assign=True)
    assert empty(torch.arange(5)).equal(made(torch.arange(5)))
    assert {name: tensor.dtype for name, tensor in made.state_dict().items()} == {
        "weight": torch.int8,
        "weight_scale": torch.float32,
    }
