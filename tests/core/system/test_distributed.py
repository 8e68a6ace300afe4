"""One process exchanges nothing, and shares are put together as they were dealt."""

from __future__ import annotations

import pytest
import torch

from sottovoce.system import distributed


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shares_hold_every_item_once_and_come_back_in_order(
    count: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    shares = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(distributed.share(range(count)))
    assert distributed.interleaved(shares) == list(range(count))


def test_one_process_gets_back_what_it_gives() -> None:
    tensor = torch.arange(3.0)
    assert distributed.gather("a") == ["a"]
    assert distributed.gather_to_main("a") == ["a"]
    assert distributed.broadcast("a") == "a"
    assert distributed.summed(tensor) is tensor
    assert distributed.summed(None) is None
    assert distributed.gather_tensors(None) == []
    distributed.require_same({"samples": "a"})
    assert distributed.is_first_to_fail()


def test_cuda_is_the_process_s_own_gpu_among_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.own_device("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.own_device("cuda") == "cuda:3"
    assert distributed.own_device("cuda:1") == "cuda:1"
    assert distributed.own_device("cpu") == "cpu"
