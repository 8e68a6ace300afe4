"""The normalization gives what the library's gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from sottovoce_forced_aligner import normalization

pytestmark = pytest.mark.usefixtures("kernels")


def layer(width: int, dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    made = Qwen3RMSNorm(width)
    made.weight.data = torch.linspace(-2, 3, width)
    return made.to(dtype).requires_grad_(False)


def drawn(*sizes: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    x = torch.randn(sizes, generator=torch.Generator().manual_seed(0))
    return (x * torch.logspace(-4, 4, sizes[-2]).unsqueeze(-1)).to(dtype)


@pytest.mark.parametrize("sizes", [(2, 7, 64), (3, 5, 4, 128)])
def test_it_is_the_librarys_to_the_last_bit_of_bfloat16(sizes: tuple[int, ...]) -> None:
    theirs = layer(sizes[-1])
    mine = copy.deepcopy(theirs)
    assert normalization.install_(mine)
    x = drawn(*sizes)
    before = x.clone()
    want, found = theirs(x), mine(x)
    assert found.dtype == torch.bfloat16
    assert x.equal(before)
    # Sums in another order: a value in a hundred may be rounded to the other side.
    assert (found == want).float().mean() > 0.98
    torch.testing.assert_close(found, want, rtol=2**-7, atol=0)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert isinstance(mine, type(theirs))
    assert type(copy.deepcopy(mine)) is type(mine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_dtypes_are_left_to_the_library(dtype: torch.dtype) -> None:
    theirs, x = layer(64, dtype), drawn(2, 3, 64, dtype=dtype)
    mine = copy.deepcopy(theirs)
    normalization.install_(mine)
    assert mine(x).equal(theirs(x))


def test_gradients_are_the_librarys() -> None:
    theirs, x = layer(64), drawn(3, 64).requires_grad_()
    mine = copy.deepcopy(theirs)
    normalization.install_(mine)
    (want,), (found,) = (torch.autograd.grad(each(x).sum(), x) for each in (theirs, mine))
    assert found.equal(want)


@pytest.mark.parametrize("other", [nn.LayerNorm(8), nn.RMSNorm(8), nn.Linear(8, 8)])
def test_other_layers_are_left_alone(other: nn.Module) -> None:
    kind = type(other)
    assert not normalization.install_(other)
    assert type(other) is kind
