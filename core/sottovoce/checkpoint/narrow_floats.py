"""Floats that a checkpoint stores in 16 bits, though the model computes with them in 32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_QUANTIZED = "weight_scale"
"""Name of a tensor that only quantized layers have; all of theirs but the bias are part of the quantization."""
_STORED = "_sottovoce_stored_floats"
"""Attribute of a model's root."""


def wide_floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the float32 tensors of a module with their names, without the scales of quantized layers."""
    import torch

    state = module.state_dict(keep_vars=True)
    quantized = {name.rpartition(".")[0] for name in state if name.rpartition(".")[2] == _QUANTIZED}
    for name, tensor in state.items():
        owner, _, attribute = name.rpartition(".")
        if tensor.dtype == torch.float32 and (owner not in quantized or attribute == "bias"):
            yield name, tensor


def store_floats_(module: nn.Module, dtype: torch.dtype | None) -> None:
    """Say that a checkpoint of a module stores its float32 tensors in a narrower dtype, as far as nothing is lost.

    The module itself remembers it, so whoever writes its tensors need not know; a copy of the module does too.

    Args:
        module: The root of the model.
        dtype: ``float16`` or ``bfloat16``; ``None`` for float32.
    """
    setattr(module, _STORED, dtype)


def stored_floats(module: nn.Module) -> torch.dtype | None:
    """Return the dtype that :func:`store_floats_` was given."""
    dtype: torch.dtype | None = getattr(module, _STORED, None)
    return dtype


def narrow_floats(module: nn.Module, dtype: torch.dtype | None = None) -> dict[str, torch.dtype]:
    """Return the narrower dtypes of the tensors that are stored so, by name: those whose values all are of it.

    Args:
        module: The module; tensors on the device ``meta`` count.
        dtype: The dtype, for a part of a model; by default the module's own :func:`stored_floats`.
    """
    dtype = dtype or stored_floats(module)
    if dtype is None:
        return {}
    return {
        name: dtype
        for name, tensor in wide_floats(module)
        if tensor.is_meta or bool((tensor.to(dtype).to(tensor.dtype) == tensor).all())
    }


def stored_bytes(module: nn.Module) -> dict[str, int]:
    """Return the bytes that each tensor takes in a checkpoint, by name; tensors that share memory count once."""
    narrow = narrow_floats(module)
    sizes: dict[int, tuple[str, int]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        size = tensor.numel() * narrow.get(name, tensor.dtype).itemsize
        sizes[tensor.data_ptr() or id(tensor)] = (name, size)
    return dict(sizes.values())
