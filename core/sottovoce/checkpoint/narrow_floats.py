"""Floats that a checkpoint stores in 16 bits, though the model computes with them in 32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_QUANTIZED = "weight_scale"
"""Name of a tensor that only quantized layers have; all of theirs but the bias are part of the quantization."""


def wide_floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the float32 tensors of a module with their names, without the scales of quantized layers."""
    import torch

    state = module.state_dict(keep_vars=True)
    quantized = {name.rpartition(".")[0] for name in state if name.rpartition(".")[2] == _QUANTIZED}
    for name, tensor in state.items():
        owner, _, attribute = name.rpartition(".")
        if tensor.dtype == torch.float32 and (owner not in quantized or attribute == "bias"):
            yield name, tensor


def narrow_floats(module: nn.Module, dtype: torch.dtype | None) -> set[str]:
    """Return the names of the tensors whose values all are of a narrower dtype, so that storing them so loses nothing.

    Args:
        module: The module; tensors on the device ``meta`` count.
        dtype: ``float16`` or ``bfloat16``; with ``None`` there are none.
    """
    if dtype is None:
        return set()
    return {
        name
        for name, tensor in wide_floats(module)
        if tensor.is_meta or bool((tensor.to(dtype).to(tensor.dtype) == tensor).all())
    }


def stored_bytes(module: nn.Module, dtype: torch.dtype | None) -> dict[str, int]:
    """Return the bytes that each tensor takes in a checkpoint, by name; tensors that share memory count once.

    Args:
        module: The module.
        dtype: As for :func:`narrow_floats`.
    """
    narrow = narrow_floats(module, dtype)
    sizes: dict[int, tuple[str, int]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        itemsize = dtype.itemsize if dtype is not None and name in narrow else tensor.itemsize
        sizes[tensor.data_ptr() or id(tensor)] = (name, tensor.numel() * itemsize)
    return dict(sizes.values())
