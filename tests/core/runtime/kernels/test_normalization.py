"""The compiled normalization rounds where the library does."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.kernels.halves import drawn
from sottovoce.runtime.kernels import normalization

SIZES = st.integers(1, 70)


@given(rows_=SIZES, width=SIZES, seed=st.integers(0, 99), power=st.integers(-20, 20))
def test_normalization_by_the_root_mean_square(rows_: int, width: int, seed: int, power: int) -> None:
    x, weight = drawn(rows_, width, seed=seed, spread=2.0**power), drawn(width, seed=seed + 1)
    wide = x.double()
    exact = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    want = exact.bfloat16() * weight
    found = normalization.rms_norm(x, weight, 1e-6)
    # A number that lies between two may go to either.
    assert float((found == want).float().mean()) > 0.97 or found.numel() < 100
    torch.testing.assert_close(found, want, rtol=2**-6, atol=0)


def test_normalization_hides_nothing_that_is_not_finite() -> None:
    x = drawn(3, 40)
    x[1, 7] = torch.nan
    x[2, 7] = torch.inf
    found = normalization.rms_norm(x, torch.ones(40).bfloat16(), 1e-6)
    assert bool(found[0].isfinite().all())
    assert bool(found[1].isnan().all())
    assert bool(found[2, 7].isnan())
