"""Quantized layers in a module: made for a scheme, put in place, counted, packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from sottovoce.checkpoint.narrow_floats import narrow_floats
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends.int8_engine import engine
from sottovoce.runtime.backends.int8_kernels import InputRange
from sottovoce.runtime.float8_linear import Float8Linear
from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.packed_linear import PackedLinear
from sottovoce.runtime.qparams import QuantizationParams
from sottovoce.runtime.quantized_linear import QuantizedLinear
from sottovoce.system.machine import release_file, release_memory, release_pages, release_threads

_KEPT_BYTES = 32_000_000
_THREADS = 4
"""Threads that pack weights: more would wait for memory."""

QUANTIZED = (Int8Linear, PackedLinear, Float8Linear, Int8Embedding)
"""Classes of quantized layers; all have a ``scheme``."""


def is_quantized(module: nn.Module) -> bool:
    """Return whether any layer of a module is quantized."""
    return any(isinstance(child, QUANTIZED) for child in module.modules())


def least_memory_bytes(module: nn.Module, int8_copies: Callable[[nn.Module], Iterable[nn.Module]] | None = None) -> int:
    """Return the bytes that a model takes at least while it runs here, without those of Python and the libraries.

    All of its tensors, int8 copies of packed weights, and the largest weight that is made float while its layer
    computes. Weights that are copied are never made float.

    Args:
        module: The module; its tensors need no data.
        int8_copies: The family's ``Runner.int8_copies``.
    """
    tensors = {tensor.data_ptr() or id(tensor): tensor for tensor in module.state_dict(keep_vars=True).values()}
    copied = {child for child in int8_copies(module) if isinstance(child, PackedLinear)} if int8_copies else set()
    floats: list[int] = [
        # Not the dtype of the scales, which may be kept in fewer bits than the model's.
        child.in_features * child.out_features * child.dtype.itemsize
        for child in module.modules()
        if isinstance(child, PackedLinear | Float8Linear) and child not in copied
    ]
    stored = sum(int(tensor.nbytes) for tensor in tensors.values())
    return stored + sum(child.in_features * child.out_features for child in copied) + max(floats, default=0)


def from_quantized(
    linear: nn.Linear, qweight: Tensor, qparams: QuantizationParams, inputs: InputRange | None = None
) -> QuantizedLinear:
    """Make the layer that stores quantized values ``[out, in]`` in place of a float layer's weight."""
    if qparams.scheme.type == "float":
        return Float8Linear.from_quantized(linear, qweight, qparams)
    if qparams.scheme.activations == "none":
        return PackedLinear.from_quantized(linear, qweight, qparams)
    return Int8Linear.from_quantized(linear, qweight, qparams, inputs)


def empty(layer: nn.Module, scheme: Scheme) -> nn.Module | None:
    """Make a layer without data for the tensors of a checkpoint, in place of a float one; ``None`` when none can be."""
    if isinstance(layer, nn.Embedding):
        dtype = layer.weight.dtype
        return Int8Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, "meta", dtype)
    if not isinstance(layer, nn.Linear):
        return None
    sizes, dtype = (layer.in_features, layer.out_features, layer.bias is not None), layer.weight.dtype
    if scheme.type == "float":
        return Float8Linear(*sizes, "meta", dtype)
    if scheme.activations == "none":
        return PackedLinear(*sizes, scheme, "meta", dtype)
    quantized = Int8Linear(*sizes, "meta", scheme)
    if layer.bias is not None:
        bias = torch.empty(layer.out_features, dtype=dtype, device="meta")
        quantized.bias = nn.Parameter(bias, requires_grad=False)
    return quantized


def replace_(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the submodule ``name``."""
    parent, _, child = name.rpartition(".")
    weight = getattr(module.get_submodule(name), "weight", None)
    setattr(module.get_submodule(parent), child, layer)
    if isinstance(weight, nn.Parameter) and not weight.is_meta:
        release_pages(weight)


def refresh_(module: nn.Module) -> None:
    """Let quantized layers forget what they derived from tensors, after some may have changed in place."""
    for child in module.modules():
        if isinstance(child, QuantizedLinear):
            child.refresh_()


def parameters_by_bits(module: nn.Module) -> dict[str, int]:
    """Return how many parameters are stored in how many bits each, the fewest bits first.

    Bits are those of a weight itself, without its share of scales and zero points; a parameter that several modules
    share counts once. The keys are text, as JSON has them.
    """
    narrow = narrow_floats(module)
    counts: Counter[int] = Counter()
    for layer in module.modules():
        if isinstance(layer, Int8Embedding):
            counts[layer.scheme.bits] += layer.num_embeddings * layer.embedding_dim
        elif isinstance(layer, QuantizedLinear):
            counts[layer.scheme.bits] += layer.in_features * layer.out_features
    for name, parameter in module.named_parameters():
        counts[8 * narrow.get(name, parameter.dtype).itemsize] += parameter.numel()
    return {str(bits): count for bits, count in sorted(counts.items()) if count}


def pack_(module: nn.Module, *files: Path) -> None:
    """Bring int8 layers into the layout of the engine now, a few at a time, so that hardly a weight is held twice.

    The engine packs a weight in one thread, so several are packed at once.

    Args:
        module: Module with int8 layers, or without.
        files: Mapped files that the weights lie in, as they were read; their pages are released on the way.
    """
    # Found out here: threads that ask at the same time would find it out, and warn, several times.
    threads = min(_THREADS, torch.get_num_threads()) if engine() == "onednn" else 1
    with ThreadPoolExecutor(threads, "pack") as pool:
        for layers in _portions(module):
            for _ in pool.map(_pack_layer_, layers):
                pass
            _release(files)
    _release(files)


def _portions(module: nn.Module) -> Iterator[list[Int8Linear]]:
    """Divide the int8 layers of a module into portions, whose plain weights are given back together."""
    layers: list[Int8Linear] = []
    size = 0
    for child in module.modules():
        if isinstance(child, Int8Linear):
            layers.append(child)
            size += child.in_features * child.out_features
            if size > _KEPT_BYTES:
                yield layers
                layers, size = [], 0
    if layers:
        yield layers


def _pack_layer_(layer: Int8Linear) -> None:
    try:
        layer.pack_()
    finally:
        # The pool's threads end, and their helpers would stay.
        release_threads()


def _release(files: Iterable[Path]) -> None:
    # The plain weights' memory lies in pieces that the C library does not give back by itself.
    release_memory()
    for file in files:
        release_file(file)
