"""Several processes of one run, as ``torchrun`` starts them; without it, one process and nothing to exchange.

All processes must call these functions in the same order. ``accelerate launch --cpu`` starts one process only, whatever
number it is given.
"""

from __future__ import annotations

import atexit
import datetime
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sottovoce.errors import SottovoceError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

Item = TypeVar("Item")

_PATIENCE = datetime.timedelta(days=1)
"""Time that a process waits for the others: the main one may save for long, and ``torchrun`` ends all if one fails."""

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
    from torch.distributed.distributed_c10d import PrefixStore

    if dist.is_initialized():
        return
    has_gpus = torch.cuda.is_available()
    if has_gpus and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
        store=PrefixStore("sottovoce", _store()),
        rank=rank(),
        world_size=world_size(),
        timeout=_PATIENCE,
    )
    atexit.register(_leave)


@functools.cache
def _store() -> Store:
    """Return the store that ``torchrun`` keeps for its processes."""
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(rendezvous("env://", timeout=_PATIENCE))[0]
    return store


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
    import torch
    import torch.distributed as dist

    join()
    # Sums may have begun as outputs of a model, which change in inference mode only.
    with torch.inference_mode():
        for tensor in tensors:
            dist.all_reduce(tensor, getattr(dist.ReduceOp, operation))


def summed(tensor: Tensor | None) -> Tensor | None:
    """Return the sum over all processes of a tensor that some of them may lack; ``None`` if all do.

    Raises:
        SottovoceError: The processes have tensors of several shapes.
    """
    if world_size() == 1:
        return tensor
    import torch

    forms = gather(None if tensor is None else (tuple(tensor.shape), tensor.dtype, tensor.device.type))
    known = {form for form in forms if form is not None}
    if not known:
        return None
    if len(known) > 1:
        raise SottovoceError(f"the processes have sums of several shapes ({known}): was another model loaded in one?")
    shape, dtype, kind = known.pop()
    if tensor is None:
        tensor = torch.zeros(shape, dtype=dtype, device=own_device(kind))
    elif not tensor.is_contiguous():
        tensor = tensor.contiguous()
    sum_(tensor)
    return tensor


def gather(item: Item) -> list[Item]:
    """Return the objects of all processes, in the order of their numbers."""
    if world_size() == 1:
        return [item]
    import torch.distributed as dist

    join()
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def gather_to_main(item: Item) -> list[Item] | None:
    """Return the objects of all processes to the main one, and ``None`` to the others."""
    if world_size() == 1:
        return [item]
    import torch.distributed as dist

    join()
    items: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(item, items)
    return items


def gather_tensors(tensor: Tensor | None) -> list[Tensor]:
    """Return the tensors of all processes, in the order of their numbers, without those that have none.

    They may be of several lengths; unlike :func:`gather` this copies nothing through pickles.
    """
    import torch

    if world_size() == 1:
        return [] if tensor is None else [tensor]
    import torch.distributed as dist

    forms = gather(None if tensor is None else (tuple(tensor.shape), tensor.dtype, tensor.device.type))
    tensors: list[Tensor] = []
    with torch.inference_mode():
        for number, form in enumerate(forms):
            if form is None:
                continue
            shape, dtype, kind = form
            if tensor is not None and number == rank():
                part = tensor.contiguous()
            else:
                part = torch.empty(shape, dtype=dtype, device=own_device(kind))
            if part.numel():
                # As bytes: not every backend knows every dtype.
                dist.broadcast(part.flatten().view(torch.uint8), src=number)
            tensors.append(part)
    return tensors


def broadcast(item: Item) -> Item:
    """Return the main process's object."""
    if world_size() == 1:
        return item
    import torch.distributed as dist

    join()
    items: list[Any] = [item if is_main() else None]
    dist.broadcast_object_list(items, src=0)
    shared: Item = items[0]
    return shared


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)


def share(items: Sequence[Item]) -> list[Item]:
    """Return every n-th of the items, those of this process of n."""
    return list(items[rank() :: world_size()])


def interleaved(shares: Sequence[Sequence[Item]]) -> list[Item]:
    """Return the items in their order, of the shares that :func:`share` gave the processes."""
    count = sum(map(len, shares))
    return [shares[place % len(shares)][place // len(shares)] for place in range(count)]


def own_device(name: str) -> str:
    """Return the device that a name means in this process: of several processes each takes another GPU for ``cuda``."""
    return f"cuda:{local_rank()}" if name == "cuda" and world_size() > 1 else name


def require_same(facts: Mapping[str, str]) -> None:
    """Check that all processes were given the same.

    Args:
        facts: Digests by what they are of, such as ``samples``.

    Raises:
        SottovoceError: A process has another; all processes raise it.
    """
    given = gather(dict(facts))
    for what, digest in given[0].items():
        if other := [number for number, of_process in enumerate(given) if of_process.get(what) != digest]:
            raise SottovoceError(
                f"process {other[0]} of {len(given)} was given other {what} than process 0; start all processes with "
                "the same command, files and versions"
            )


def is_first_to_fail() -> bool:
    """Return true in the first process that calls this: the error of one is reported, not what follows in all."""
    if world_size() == 1:
        return True
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        return bool(_store().add(f"sottovoce-failed-{attempt}", 1) == 1)
    except Exception:  # Whatever became of the store, an error is not lost.
        return True
