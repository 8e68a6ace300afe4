"""Several processes of one run, as ``torchrun`` starts them; without it, one process and nothing to exchange.

All processes must call these functions in the same order. ``accelerate launch --cpu`` starts one process only, whatever
number it is given.
"""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")

_RANK, _WORLD_SIZE, _LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get(_RANK, "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get(_WORLD_SIZE, "1"))


def local_rank() -> int:
    """Return the number of this process on its machine, which is the number of its GPU too."""
    return int(os.environ.get(_LOCAL_RANK, "0"))


def is_main() -> bool:
    """Return true for the process that prints and writes files."""
    return rank() == 0


def join() -> None:
    """Meet the other processes: once, before the first exchange; nothing happens with one process."""
    if world_size() == 1:
        return
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend)
        atexit.register(_leave)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def sum_(*tensors: Tensor) -> None:
    """Add up tensors over all processes, in place; every process gets the same."""
    _reduce_(tensors, "SUM")


def max_(*tensors: Tensor) -> None:
    """Take the largest values of all processes, in place."""
    _reduce_(tensors, "MAX")


def min_(*tensors: Tensor) -> None:
    """Take the least values of all processes, in place."""
    _reduce_(tensors, "MIN")


def _reduce_(tensors: tuple[Tensor, ...], operation: str) -> None:
    if world_size() == 1:
        return
    import torch.distributed as dist

    join()
    for tensor in tensors:
        dist.all_reduce(tensor, getattr(dist.ReduceOp, operation))


def gather(item: Item) -> list[Item]:
    """Return the objects of all processes, in the order of their numbers."""
    if world_size() == 1:
        return [item]
    import torch.distributed as dist

    join()
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def broadcast(item: Item) -> Item:
    """Return the main process's object."""
    return gather(item if is_main() else None)[0]  # type: ignore[return-value]


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)


def share(items: list[Item]) -> list[Item]:
    """Return every n-th of the items, those of this process of n."""
    return items[rank() :: world_size()]
