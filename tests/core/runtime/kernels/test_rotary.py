"""The compiled rotary embedding is the library's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.kernels.halves import drawn
from sottovoce.runtime.kernels import rotary

SIZES = st.integers(1, 70)


@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 5),
    length=SIZES,
    half=st.integers(1, 20),
    tables=st.booleans(),
    lying=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rotary_embeddings(
    batch: int, heads: int, length: int, half: int, tables: bool, lying: bool, seed: int
) -> None:
    from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

    x = drawn(batch, length, heads, 2 * half, seed=seed).transpose(1, 2)
    x = x.contiguous() if lying else x
    angle = drawn(batch if tables else 1, length, 2 * half, seed=seed + 1).float()
    cos, sin = angle.cos().bfloat16(), angle.sin().bfloat16()
    want, _ = apply_rotary_pos_emb(x, x, cos, sin)
    found = rotary.turn(x, cos, sin)
    assert torch.equal(found, want)
    assert found.stride() == x.stride()


def test_tables_of_another_length_are_refused() -> None:
    with pytest.raises(RuntimeError, match="expand"):
        rotary.turn(drawn(1, 2, 9, 4), drawn(1, 8, 4), drawn(1, 8, 4))
