"""What experts are given: the block runs up to them on its samples, and they themselves do not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.drawn import normal
from core.mixtures import Mixture, make_mixture
from sottovoce import Sample
from sottovoce.calibration.blocks import Block
from sottovoce.calibration.routing import EVERY, routed
from sottovoce.errors import NotFiniteError, SottovoceError

WIDTH, TOP_K = 16, 2
LENGTHS = (5, 3, 7)


class Layer(nn.Module):
    """A mixture behind a layer; a sample of one token goes by it."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(WIDTH, WIDTH)
        self.before.weight.data = normal(WIDTH, WIDTH, seed=9) / 4
        self.before.bias.data.zero_()
        self.mlp = make_mixture(6, TOP_K, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        if x.shape[1] == 1:
            return x
        return x + self.mlp(x)  # type: ignore[no-any-return]


class SampleThread:
    """A sample that waits at a block."""

    def __init__(self, number: int, length: int) -> None:
        self.sample = Sample(key=f"sample-{number}", text="a" * length)
        self.x = normal(1, length, WIDTH, seed=number)

    @contextmanager
    def computed(self, module: nn.Module) -> Iterator[Tensor]:
        with torch.inference_mode():
            yield module(self.x)


def block_of(lengths: Sequence[int] = LENGTHS) -> tuple[Block, Layer]:
    layer = Layer().eval()
    sample_threads: Any = [SampleThread(number, length) for number, length in enumerate(lengths)]
    return Block("layers.0", nn.ModuleDict({"layers": nn.ModuleList([layer])}), sample_threads), layer


NAME = "layers.0.mlp.experts"


def seen(block: Block, layer: Layer) -> tuple[Tensor, Tensor, Tensor]:
    """What the experts are given in ordinary passes."""
    given: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = layer.mlp.experts.register_forward_pre_hook(lambda _, arguments: given.append(arguments))
    list(block.run())
    hook.remove()
    hidden, index, weight = (torch.cat(parts) for parts in zip(*given, strict=True))
    return hidden, index, weight


def test_tokens_of_all_samples_are_concatenated() -> None:
    block, layer = block_of()
    found = routed(block, NAME)
    assert found is not None
    hidden, index, weight = seen(block, layer)
    assert len(found) == sum(LENGTHS)
    assert found.hidden.equal(hidden)
    assert found.index.equal(index)
    assert found.weight.equal(weight)
    assert found.hidden.shape == (sum(LENGTHS), WIDTH)
    assert found.index.shape == found.weight.shape == (sum(LENGTHS), TOP_K)


def test_tokens_without_modalities_have_one_kind() -> None:
    found = routed(block_of()[0], NAME)
    assert found is not None
    assert found.modalities == (EVERY,)
    assert found.modality.equal(torch.zeros(sum(LENGTHS), dtype=torch.int64))


def test_kinds_are_numbered_in_order_of_occurrence() -> None:
    kinds = {5: "text", 3: "audio", 7: "text"}
    asked: list[str] = []

    def kinds_of(sample: Sample) -> list[str]:
        asked.append(sample.key)
        length = len(sample.text or "")
        return ["image", *[kinds[length]] * (length - 1)]

    found = routed(block_of()[0], NAME, kinds_of)
    assert found is not None
    assert asked == ["sample-0", "sample-1", "sample-2"]
    assert found.modalities == ("image", "text", "audio")
    assert found.modality.tolist() == [0, 1, 1, 1, 1, 0, 2, 2, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("count", [0, 4, 6])
def test_wrong_number_of_kinds_is_an_error_of_the_plugin(count: int) -> None:
    problem = f"the sample 'sample-0': the family names the kinds of {count} tokens, but the block is given 5"
    with pytest.raises(SottovoceError, match=problem):
        routed(block_of()[0], NAME, lambda sample: ["text"] * count)


def test_experts_do_not_run_and_hooks_are_removed() -> None:
    block, layer = block_of()
    ran: list[int] = []
    for number, expert in enumerate(layer.mlp.experts):
        expert.register_forward_hook(lambda *_, to=number: ran.append(to))
    assert routed(block, NAME) is not None
    assert ran == []
    assert not layer.mlp.experts._forward_pre_hooks
    list(block.run())
    assert ran


def test_samples_that_do_not_reach_the_experts_are_left_out() -> None:
    block, _ = block_of((4, 1, 2))
    asked: list[str] = []

    def kinds_of(sample: Sample) -> list[str]:
        asked.append(sample.key)
        return ["text"] * len(sample.text or "")

    found = routed(block, NAME, kinds_of)
    assert found is not None
    assert len(found) == 6
    assert asked == ["sample-0", "sample-2"]


@pytest.mark.parametrize("lengths", [(), (1, 1)])
def test_no_tokens_give_none(lengths: tuple[int, ...]) -> None:
    block, layer = block_of(lengths)
    assert routed(block, NAME) is None
    assert not layer.mlp.experts._forward_pre_hooks


def test_tokens_of_given_sample_threads_are_in_their_order() -> None:
    block, layer = block_of()
    found = routed(block, NAME, sample_threads=[block.sample_threads[2], block.sample_threads[0]])
    assert found is not None
    hidden = seen(block, layer)[0]
    assert found.hidden.equal(torch.cat((hidden[8:], hidden[:5])))


def test_experts_called_with_keywords_are_observed() -> None:
    block, layer = block_of()
    want = routed(block, NAME)

    class ByName(Mixture):
        def forward(self, hidden: Tensor) -> Tensor:
            rows = hidden.reshape(-1, WIDTH)
            _, weight, index = self.gate(rows)
            made = self.experts(hidden_states=rows, top_k_index=index, top_k_weights=weight)
            return made.reshape(hidden.shape)  # type: ignore[no-any-return]

    layer.mlp = ByName(layer.mlp.experts, layer.mlp.gate)  # type: ignore[arg-type]
    found = routed(block, NAME)
    assert found is not None
    assert want is not None
    assert found.index.equal(want.index)
    assert found.weight.equal(want.weight)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_inputs_that_are_not_finite_name_the_experts(value: float) -> None:
    block, layer = block_of()
    block.sample_threads[1].x[0, 1, 0] = value  # type: ignore[attr-defined]
    with pytest.raises(NotFiniteError, match=r"the inputs of the experts 'layers\.0\.mlp\.experts' are not finite"):
        routed(block, NAME)
    assert not layer.mlp.experts._forward_pre_hooks


def test_error_before_the_experts_removes_hooks() -> None:
    block, layer = block_of()
    layer.before = nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="shapes"):
        routed(block, NAME)
    assert not layer.mlp.experts._forward_pre_hooks
