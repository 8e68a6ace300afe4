"""Activations by tables, and gates in one pass, give what the library's layers give."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers import Qwen3Config
from transformers.activations import ACT2FN
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import onednn
from sottovoce.runtime.int8_linear import BY_TENSOR, Int8Linear, share_rounding_
from sottovoce_forced_aligner import activation

BY_ROW = Scheme(bits=8, activations="dynamic", strategy="token")
pytestmark = pytest.mark.usefixtures("kernels")


def drawn(*sizes: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0)).to(dtype)


def layer(act: str = "silu", dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    torch.manual_seed(0)
    made = Qwen3MLP(Qwen3Config(hidden_size=64, intermediate_size=96, hidden_act=act))
    return made.to(dtype).requires_grad_(False).eval()


def int8(scheme: Scheme, act: str = "silu", bias: bool = False) -> nn.Module:
    made = layer(act)
    for name in ("gate_proj", "up_proj", "down_proj"):
        linear = getattr(made, name)
        if bias:
            linear.bias = nn.Parameter(drawn(linear.out_features), requires_grad=False)
        rounded = Int8Linear.from_float(linear)
        rounded.scheme = scheme
        setattr(made, name, rounded)
    return made


@pytest.mark.parametrize("name", ["gelu", "silu"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_activations_are_the_librarys(name: str, dtype: torch.dtype) -> None:
    theirs = ACT2FN[name]
    mine = copy.deepcopy(theirs)
    assert activation.install_(mine)
    x = drawn(2, 64, 64, dtype=dtype)
    assert mine(x).equal(theirs(x))
    assert isinstance(mine, type(theirs))


@pytest.mark.parametrize("act", ["silu", "gelu"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_float_feed_forward_layer_is_the_librarys(act: str, dtype: torch.dtype) -> None:
    theirs, x = layer(act, dtype), drawn(2, 9, 64, dtype=dtype)
    mine = copy.deepcopy(theirs)
    assert activation.install_(mine)
    assert mine(x).equal(theirs(x))
    assert mine.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("scheme", [BY_ROW, BY_TENSOR], ids=["row", "tensor"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_an_int8_feed_forward_layer_is_the_librarys(scheme: Scheme, bias: bool, shared: bool) -> None:
    theirs, x = int8(scheme, bias=bias), drawn(2, 9, 64)
    mine = copy.deepcopy(theirs)
    if shared:
        share_rounding_(mine.gate_proj, mine.up_proj)  # type: ignore[arg-type]
    assert activation.install_(mine)
    before = x.clone()
    assert mine(x).equal(theirs(x))
    assert mine(x).equal(theirs(x))
    assert x.equal(before)


@pytest.mark.skipif(not onednn.supported(), reason="int8 products by oneDNN do not run here")
def test_numbers_that_are_not_finite_are_not_hidden() -> None:
    mine, x = int8(BY_ROW), drawn(2, 9, 64)
    assert activation.install_(mine)
    x[0, 3, 7] = torch.nan
    found = mine(x)
    assert bool(found[0, 3].isnan().all())
    assert bool(found[1].isfinite().all())


def test_who_watches_a_projection_finds_its_output_as_it_was() -> None:
    theirs, x, seen = layer(), drawn(2, 9, 64), []
    mine = copy.deepcopy(theirs)
    assert activation.install_(mine)
    mine.gate_proj.register_forward_hook(lambda _, given, result: seen.append(result))  # type: ignore[union-attr]
    assert mine(x).equal(theirs(x))
    assert seen[0].equal(theirs.gate_proj(x))  # type: ignore[operator]


def test_gradients_are_the_librarys() -> None:
    theirs, x = layer(), drawn(3, 64).requires_grad_()
    mine = copy.deepcopy(theirs)
    assert activation.install_(mine)
    (want,), (found,) = (torch.autograd.grad(each(x).sum(), x) for each in (theirs, mine))
    assert found.equal(want)


def test_optimized_layers_are_copied_and_pickled() -> None:
    mine, x = layer(), drawn(2, 9, 64)
    assert activation.install_(mine)
    assert activation.install_(mine.act_fn)  # type: ignore[arg-type]
    want = mine(x)
    for again in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(again) is type(mine)
        assert type(again.act_fn) is type(mine.act_fn)
        assert again(x).equal(want)


@pytest.mark.parametrize("other", [nn.GELU(approximate="tanh"), nn.Linear(4, 4), nn.Softmax(-1), layer("relu")])
def test_other_layers_are_left_alone(other: nn.Module) -> None:
    kind = type(other)
    assert not activation.install_(other)
    assert type(other) is kind
