"""A GPU that is none: tensors that say ``cuda:0`` and are computed on the CPU.

Where tensors of both devices meet in an operation it fails, as a GPU does. Numbers are those of the CPU; speed, memory
and the kernels that a GPU alone has are not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from sottovoce.calibration.sample_threads import SampleThread
from sottovoce.runtime.backends import int_mm
from sottovoce.system import device

DEVICE = torch.device("cuda:0")
waits: list[str] = []
"""The operations that waited for the device, in their order."""

_CPU = torch.device("cpu")
_aten = torch.ops.aten
_BETWEEN_DEVICES = {_aten.copy_, _aten._to_copy, _aten.to}
_BY_INDEX = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_, _aten._unsafe_index}
_WITHOUT_SCALARS = {
    _aten.mm,
    _aten.addmm,
    _aten.bmm,
    _aten.linear,
    _aten.cat,
    _aten.stack,
    _aten.index_select,
    _aten.gather,
    _aten.scatter_,
    _aten.index_add_,
    _aten.index_copy_,
    _aten.embedding,
    _aten._int_mm,
}
"""Operations in which even a single number must lie on the GPU."""
_WAITING = {_aten._local_scalar_dense, _aten.item, _aten.equal, _aten.nonzero, _aten.is_nonzero}
_OF_THE_CPU = (Tensor.data_ptr, Tensor.untyped_storage, Tensor.is_contiguous, Tensor.tolist)
"""What there is only once: the tensor within."""


class GpuTensor(Tensor):
    """Says that it lies on the GPU."""

    held: Tensor
    """Where the numbers are."""
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> GpuTensor:
        assert type(inner) is Tensor
        with torch.inference_mode(inner.is_inference()):
            made = Tensor._make_wrapper_subclass(
                cls,
                inner.size(),
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                # For PyTorch's own code, which has means to change to it in every build.
                device=torch.device("meta"),
            )
        made.held = inner
        return made

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_meta = property(lambda self: False)
    is_cpu = property(lambda self: False)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"GpuTensor({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made = GpuTensor(self.held.clone())
        copied = nn.Parameter(made, self.requires_grad) if isinstance(self, nn.Parameter) else made
        memo[id(self)] = copied
        return copied

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], *_: Any) -> GpuTensor:
        return GpuTensor(parts["held"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = args, kwargs or {}
        _refuse(func, *given)
        targets = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.device)]
        leaves = any(target.type == "cpu" for target in targets)
        if (
            leaves
            or func.overloadpacket in _WAITING
            or (func.overloadpacket is _aten.copy_ and not isinstance(args[0], GpuTensor))
        ):
            waits.append(str(func))
        outer = {id(leaf.held): leaf for leaf in tree_leaves(given) if isinstance(leaf, GpuTensor)}
        inner_args, inner_kwargs = tree_map(_within, given)
        found = func(*inner_args, **inner_kwargs)
        if leaves:
            return tree_map_only(Tensor, lambda tensor: tensor.clone() if id(tensor) in outer else tensor, found)
        own = {id(leaf) for leaf in tree_leaves(given) if type(leaf) is Tensor}
        return tree_map_only(Tensor, lambda made: made if id(made) in own else _around(made, outer), found)


def _within(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return _CPU
    return leaf.held if isinstance(leaf, GpuTensor) else leaf


def _around(made: Tensor, outer: dict[int, GpuTensor]) -> Tensor:
    """The tensor that something was done to in place, or a new one."""
    known = outer.get(id(made))
    return made if made.is_meta else GpuTensor(made) if known is None else known


def _refuse(func: Any, args: Any, kwargs: Any) -> None:
    """Fail where tensors of both devices meet that may not, and at products that the GPU's kernel does not take."""
    packet = func.overloadpacket
    if packet is _aten._int_mm and (args[0].shape[0] <= 16 or any(size % 8 for size in args[1].shape)):
        raise RuntimeError(f"_int_mm does not take {tuple(args[0].shape)} by {tuple(args[1].shape)}")
    if packet in _BETWEEN_DEVICES:
        return
    allowed: set[int] = set()
    if packet in _BY_INDEX and isinstance(args[0], GpuTensor):
        allowed = {id(index) for index in args[1]}
    changes_first = func._schema.is_mutable and args and isinstance(args[0], Tensor)
    for leaf in tree_leaves((args, kwargs)):
        # PyTorch made it where it takes this device to be: its value is lost.
        assert not isinstance(leaf, Tensor) or not leaf.is_meta, f"{func} is not pretended rightly"
        if not isinstance(leaf, Tensor) or leaf.device.type != "cpu" or id(leaf) in allowed:
            continue
        if leaf.dim() or packet in _WITHOUT_SCALARS or (changes_first and leaf is args[0]):
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu! ({func})")


class _Calls(TorchFunctionMode):
    """Takes the calls that ask for the GPU by name, which this build of PyTorch would refuse, and some others."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            target = {Tensor.cuda: (DEVICE,), Tensor.cpu: (_CPU,)}.get(func, args[1:])
            return _moved(args[0], target, kwargs if func is Tensor.to else {})
        if func in (torch.tensor, torch.as_tensor) and any(isinstance(leaf, GpuTensor) for leaf in tree_leaves(args)):
            waits.append("tensor of single numbers")
            stays = _is_gpu(kwargs.pop("device", args[0].device if isinstance(args[0], GpuTensor) else None))
            made = func(*tree_map(_within, args), **kwargs)
            return GpuTensor(made) if stays else made
        if _is_gpu(kwargs.get("device")):
            found = func(*tree_map(_within, args), **tree_map(_within, {**kwargs, "device": _CPU}))
            return tree_map_only(Tensor, GpuTensor, found)
        if not any(isinstance(leaf, GpuTensor) for leaf in args):
            return func(*args, **kwargs)
        return _own(func, args, kwargs)


def _own(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Calls with a tensor of the GPU that PyTorch's own code would not hand on, or not with their numbers."""
    first = args[0]
    if func is torch._has_compatible_shallow_copy_type:
        return False  # a module gets a new parameter then
    if func is Tensor.numpy:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")
    if func in _OF_THE_CPU:
        waits.extend(["tolist"] if func is Tensor.tolist else [])
        return func(first.held, *args[1:], **kwargs)
    if func == Tensor.data.__get__:  # type: ignore[attr-defined]
        return GpuTensor(first.held.detach())
    if func == Tensor.data.__set__:  # type: ignore[attr-defined]
        first.held = args[1].held
        return None
    if func is Tensor.new_tensor:
        return GpuTensor(first.held.new_tensor(*tree_map(_within, args[1:]), **kwargs))
    if func in (torch.where, Tensor.where, Tensor.__setitem__):
        dtype = next(leaf.dtype for leaf in args if isinstance(leaf, Tensor) and leaf.dtype != torch.bool)
        places = (2,) if func is Tensor.__setitem__ else range(len(args))
        args = [
            torch.tensor(leaf, dtype=dtype) if place in places and isinstance(leaf, int | float) else leaf
            for place, leaf in enumerate(args)
        ]
    return func(*args, **kwargs)


def _is_gpu(device: Any) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


def _moved(tensor: Tensor, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """What ``Tensor.to`` gives."""
    devices = [leaf.device if isinstance(leaf, Tensor) else leaf for leaf in (*args, *kwargs.values())]
    target = next((torch.device(one) for one in devices if isinstance(one, str | torch.device)), tensor.device)
    dtypes = [leaf.dtype if isinstance(leaf, Tensor) else leaf for leaf in (*args, *kwargs.values())]
    dtype = next((one for one in dtypes if isinstance(one, torch.dtype)), tensor.dtype)
    if target.type == tensor.device.type and not isinstance(tensor, GpuTensor):
        return tensor.to(*args, **kwargs)
    copy = bool(kwargs.get("copy", False)) or target.type != tensor.device.type
    if isinstance(tensor, GpuTensor):
        if not copy and dtype == tensor.dtype:
            return tensor
        if target.type == "cuda":
            return tensor.to(dtype=dtype, copy=copy)
        if target.type == "cpu":
            waits.append("to")
        return tensor.held.to(target, dtype, copy=True)
    return GpuTensor(tensor.detach().to(_CPU, dtype, copy=True)) if target.type == "cuda" else tensor.to(target, dtype)


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Meanwhile ``cuda`` is there, in this thread and in those of a walk's sample_threads."""
    run = SampleThread.run

    def run_with_gpu(sample_thread: SampleThread) -> None:
        with _Calls():
            run(sample_thread)

    int_mm.supported.cache_clear()
    with (
        patch.object(SampleThread, "run", run_with_gpu),
        patch.object(device, "device_count", lambda kind: 1),
        _Calls(),
    ):
        yield
    int_mm.supported.cache_clear()
