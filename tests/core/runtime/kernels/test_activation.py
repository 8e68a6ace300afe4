"""Activations by tables are the functions' own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from core.runtime.kernels.halves import EVERY, LARGE, alike, drawn
from sottovoce.runtime.kernels import activation

SIZES = st.integers(1, 70)


@pytest.mark.parametrize("function", [functional.gelu, functional.silu, torch.tanh])
def test_activations_are_the_functions_own_for_every_number(function: activation.Function) -> None:
    before = EVERY.clone()
    assert alike(activation.activate(EVERY, function), function(EVERY))
    assert EVERY.view(torch.int16).equal(before.view(torch.int16))


def test_an_activation_of_a_transposed_tensor() -> None:
    x = drawn(*LARGE).t()
    assert torch.equal(activation.activate(x, torch.neg), -x)


@given(rows_=SIZES, width=SIZES, seed=st.integers(0, 99), scaled=st.booleans())
def test_a_gate_is_scaled_activated_and_multiplied(rows_: int, width: int, seed: int, scaled: bool) -> None:
    gate, up, scale = drawn(1, rows_, width, seed=seed), drawn(1, rows_, width, seed=seed + 1), drawn(rows_, 1)
    want = functional.silu(gate * scale) * (up * scale) if scaled else functional.silu(gate) * up
    found = activation.activate_times_(gate, up, functional.silu, scale if scaled else None)
    assert found is gate
    assert torch.equal(found, want)


def test_gates_hide_nothing_that_is_not_finite() -> None:
    gate, up = EVERY.clone().view(256, 256), torch.full((256, 256), 0.5).bfloat16()
    want = functional.silu(gate) * up
    assert alike(activation.activate_times_(gate, up, functional.silu), want)
