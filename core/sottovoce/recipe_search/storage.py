"""Bytes that tensors take in a safetensors file, header included."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.checkpoint.narrow_floats import narrow_floats, wide_floats
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import empty

if TYPE_CHECKING:
    from sottovoce.model import Model
    from sottovoce.recipe_search.units import Layer

_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8", torch.int32: "I32"}
_METADATA = {"format": "pt"}
_LENGTH = 8
"""Bytes of the header's length, and what it is padded to."""


def file_bytes(model: Model) -> int:
    """Return the bytes of a model's weights as they are written; tensors that share memory count once."""
    tensors = unique_tensors(model.module)
    for name, dtype in narrow_floats(model.module).items():
        if name in tensors:
            tensors[name] = tensors[name].to("meta", dtype)
    header: dict[str, Any] = {"__metadata__": _METADATA}
    first = 0
    # The order in which safetensors writes them.
    for name, tensor in sorted(tensors.items(), key=_place):
        header[name] = _entry(tensor, first)
        first += tensor.nbytes
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return _LENGTH + -(-length // _LENGTH) * _LENGTH + first


def unique_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name, without further names of tensors that share memory."""
    names: dict[int, str] = {}
    tensors = module.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        names.setdefault(tensor.data_ptr() or id(tensor), name)
    return {name: tensors[name] for name in names.values()}


def entry_bytes(name: str, tensor: Tensor) -> int:
    """Return the bytes of one tensor and of its entry in the header, where offsets have ten digits."""
    text = json.dumps({name: _entry(tensor, 10**9)}, separators=(",", ":"), ensure_ascii=False)
    return int(tensor.nbytes) + len(text.encode()) - 1


def layer_bytes(layer: Layer, scheme: Scheme | None, dtype: torch.dtype, narrow: torch.dtype | None = None) -> int:
    """Return the bytes of a layer.

    Args:
        layer: Its sizes.
        scheme: How it is stored; ``None`` for float.
        dtype: Dtype of the float model.
        narrow: Dtype in which 32-bit floats are stored.
    """
    sizes = (layer.outputs, layer.inputs, layer.is_table, layer.has_bias)
    data, names = _parts(sizes, scheme, dtype, narrow)
    return data + names * len(layer.name.encode())


@functools.cache
def _parts(
    sizes: tuple[int, int, bool, bool], scheme: Scheme | None, dtype: torch.dtype, narrow: torch.dtype | None
) -> tuple[int, int]:
    """Return the bytes of a layer without a name, and how many tensors repeat the name."""
    rows, columns, is_table, has_bias = sizes
    layer: nn.Module
    if is_table:
        # Of a weight that is there: to draw one, if without data, PyTorch imports its compiler for a second.
        weight = torch.empty(rows, columns, device="meta", dtype=dtype)
        layer = nn.Embedding.from_pretrained(weight)  # type: ignore[no-untyped-call]
    else:
        layer = nn.Linear(columns, rows, has_bias, device="meta", dtype=dtype)
    stored = layer if scheme is None else empty(layer, scheme)
    assert stored is not None
    tensors = _narrowed(stored, stored.state_dict(), narrow)
    return sum(entry_bytes(f".{name}", tensor) for name, tensor in tensors.items()), len(tensors)


def _narrowed(module: nn.Module, tensors: Mapping[str, Tensor], narrow: torch.dtype | None) -> dict[str, Tensor]:
    """Return tensors of a module without data, with the dtypes that they have once its floats are stored so."""
    dtypes = {} if narrow is None else dict.fromkeys((name for name, _ in wide_floats(module)), narrow)
    return {name: tensor.to("meta", dtypes.get(name, tensor.dtype)) for name, tensor in tensors.items()}


def fixed_bytes(
    model: Model, layers: Mapping[str, Layer], narrow: torch.dtype | None = None, removed: str | None = None
) -> int:
    """Return the bytes of all that no choice changes: other tensors, and the header around the entries.

    Args:
        model: The model.
        layers: The layers that choices change.
        narrow: Dtype in which 32-bit floats are stored.
        removed: Name of a module whose tensors do not count.
    """
    tensors = _narrowed(model.module, unique_tensors(model.module), narrow)
    others = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in layers}
    if removed is not None:
        others = {name: tensor for name, tensor in others.items() if not name.startswith(f"{removed}.")}
    return (
        2 * _LENGTH
        + len(json.dumps({"__metadata__": _METADATA}))
        + sum(entry_bytes(name, tensor) for name, tensor in others.items())
    )


def _place(item: tuple[str, Tensor]) -> tuple[int, bool, str]:
    name, tensor = item
    return -tensor.itemsize, not tensor.is_floating_point(), name


def _entry(tensor: Tensor, first: int) -> dict[str, object]:
    dtype = _DTYPES.get(tensor.dtype, "I64")
    return {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [first, first + tensor.nbytes]}
