"""A thread's own default type gives it what the process's would, and others nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from sottovoce.formats.transformers.default_dtype import thread_default_type


def held(value: Tensor) -> Tensor:
    """What a module makes of a tensor."""
    module = nn.Module()
    if isinstance(value, nn.Parameter):
        module.value = value
    else:
        module.register_buffer("value", value)
    return module.state_dict()["value"]  # type: ignore[no-any-return]


WHOLE = torch.arange(1, 400)
FRACTIONS = torch.linspace(0, 1, 7)
MAKERS: dict[str, Callable[[], Tensor]] = {
    "zeros": lambda: torch.zeros(3),
    "ones by a tuple": lambda: torch.ones((2, 2)),
    "empty": lambda: torch.empty(2, 3).fill_(1),
    "eye": lambda: torch.eye(3),
    "linspace": lambda: torch.linspace(0, 1, 11),
    "logspace": lambda: torch.logspace(0, 3, 11),
    "window": lambda: torch.hann_window(16),
    "whole numbers": lambda: torch.arange(5),
    "fractions": lambda: torch.arange(0, 1, 0.1),
    "full of a fraction": lambda: torch.full((3,), 0.1),
    "full of a number": lambda: torch.full((3,), 7),
    "full of truth": lambda: torch.full((3,), True),
    "tensor of fractions": lambda: torch.tensor([0.1, 0.2]),
    "tensor of rows": lambda: torch.tensor([[1, 2.5], [3, 4]]),
    "tensor of numbers": lambda: torch.tensor([1, 2]),
    "scalar": lambda: torch.tensor(0.3),
    "tensor of an array": lambda: torch.tensor(FRACTIONS.numpy()),
    "as tensor": lambda: torch.as_tensor([0.7]),
    "typed": lambda: torch.zeros(3, dtype=torch.float32),
    "typed by Python": lambda: torch.ones(3, dtype=bool),  # type: ignore[call-overload]
    "typed fractions": lambda: torch.arange(0, 1, 0.1, dtype=torch.float32),
    "made float": lambda: WHOLE.float() / 7,
    "made float by to": lambda: WHOLE.to(torch.float32) / 7,
    "made like another": lambda: WHOLE.type_as(FRACTIONS) / 7,
    "rotary": lambda: 1.0 / (10000 ** (torch.arange(0, 64, 2, dtype=torch.int64).float() / 64)),
    "division": lambda: WHOLE / 7,
    "division by whole numbers": lambda: WHOLE / WHOLE.flip(0),
    "a fraction times": lambda: WHOLE * 0.1,
    "one over": lambda: 1 / WHOLE,
    "root": lambda: torch.sqrt(WHOLE),
    "power": lambda: 1.01**WHOLE,
    "sine": lambda: WHOLE.sin(),
    "choice": lambda: torch.where(WHOLE > 3, 0.1, 0.7),
    "fractions stay": lambda: FRACTIONS * WHOLE[:7],
    "empty like": lambda: torch.zeros_like(FRACTIONS),
    "new": lambda: FRACTIONS.new_zeros(3),
    "drawn": lambda: torch.rand(4, generator=torch.Generator().manual_seed(0)),
    "drawn normal": lambda: torch.randn(4, generator=torch.Generator().manual_seed(0)),
    "weights": lambda: nn.Linear(3, 3).weight.detach().zero_(),
    "table": lambda: nn.Embedding(3, 3, padding_idx=0).weight.detach().zero_(),
    "a buffer": lambda: nn.BatchNorm1d(3).get_buffer("running_var"),
    "drawn by a mean": lambda: torch.normal(0.0, 1.0, (3,), generator=torch.Generator().manual_seed(0)) * 0,
    "a parameter made the old way": lambda: held(nn.Parameter(torch.Tensor(3).fill_(0.5))),
    "a buffer made the old way": lambda: held(torch.Tensor([0.5, 0.25])),
    "a typed parameter": lambda: held(nn.Parameter(torch.ones(3, dtype=torch.float32) / 3)),
    "a typed buffer": lambda: held(WHOLE.float().mul(0.1)[:3]),
    "a part of a typed buffer": lambda: held(torch.ones(3, 3, dtype=torch.float32).t()[1]),
    "a parameter of the default type": lambda: held(nn.Parameter(torch.ones(3) / 3)),
    "on meta": lambda: torch.zeros(3, device="meta"),
}


@pytest.fixture(autouse=True)
def the_default_type_stays() -> object:
    before = (torch.get_default_dtype(), torch.set_default_dtype, torch.get_default_dtype)
    yield
    assert (torch.get_default_dtype(), torch.set_default_dtype, torch.get_default_dtype) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("what", MAKERS)
def test_a_tensor_is_what_the_processs_default_type_would_make_it(what: str, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        expected = MAKERS[what]()
    finally:
        torch.set_default_dtype(torch.float32)
    with thread_default_type():
        torch.set_default_dtype(dtype)
        found = MAKERS[what]()
    assert found.dtype is expected.dtype
    assert found.device == expected.device
    if not found.is_meta:
        assert found.equal(expected)


def test_other_threads_have_the_processs_type_meanwhile() -> None:
    with thread_default_type(), ThreadPoolExecutor(1) as thread:
        torch.set_default_dtype(torch.bfloat16)
        assert torch.get_default_dtype() is torch.bfloat16
        assert thread.submit(torch.get_default_dtype).result() is torch.float32
        assert thread.submit(lambda: nn.Linear(2, 2).weight.dtype).result() is torch.float32
        thread.submit(torch.set_default_dtype, torch.float64).result()
        assert thread.submit(torch.get_default_dtype).result() is torch.float64
        thread.submit(torch.set_default_dtype, torch.float32).result()
        assert torch.get_default_dtype() is torch.bfloat16
        torch.set_default_dtype(torch.float32)
        assert torch.zeros(1).dtype is torch.float32


def test_an_error_puts_all_back() -> None:
    with pytest.raises(ValueError, match="stop"), thread_default_type():
        torch.set_default_dtype(torch.bfloat16)
        raise ValueError("stop")
