"""Replay: a change is measured as if the whole model had run."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sottovoce.recipe_search.replay import Replay


class Branched(nn.Module):
    """A block that runs twice, one that runs once, and glue that writes into their outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = (nn.Sequential(nn.Linear(4, 4)) for _ in range(3))
        self.calls: list[str] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y += 1
        y = self.twice(self.twice(y))
        return self.last(y)  # type: ignore[no-any-return]


def test_a_changed_layer_gives_what_the_whole_model_gives() -> None:
    torch.manual_seed(0)
    model = Branched()
    x = torch.randn(3, 4)
    replay = Replay(model, ["first", "twice", "last"])
    with torch.inference_mode(), replay.recorded():
        before = model(x)
    assert replay.before("last.0") == ["first"]
    assert replay.before("twice.0") == []
    assert replay.before("first.0") == []
    for layer in ("last", "first", "twice"):
        changed = copy.deepcopy(model)
        changed.get_submodule(f"{layer}.0").weight.data.mul_(2)  # type: ignore[union-attr, operator]
        model_layer = model.get_submodule(layer)
        setattr(model, layer, changed.get_submodule(layer))
        with torch.inference_mode(), replay.replaced(replay.before(f"{layer}.0")):
            assert model(x).equal(changed(x))
            assert model(x).equal(changed(x))  # what was recorded is as it was
        setattr(model, layer, model_layer)
    with torch.inference_mode():
        assert model(x).equal(before)


def test_replaced_blocks_do_not_run_and_run_again_afterwards() -> None:
    model = Branched()
    replay = Replay(model, ["first"])
    x = torch.randn(2, 4)
    with torch.inference_mode(), replay.recorded():
        model(x)
    with torch.inference_mode(), replay.replaced(["first"]):
        assert model(x).equal(model(torch.zeros(2, 4)))
    assert not model(x).equal(model(torch.zeros(2, 4)))
