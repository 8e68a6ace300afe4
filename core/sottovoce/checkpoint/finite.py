"""Checks that weights are finite and scales positive, before any work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sottovoce.errors import NotFiniteError
from sottovoce.system.machine import release_pages

if TYPE_CHECKING:
    from torch import Tensor, nn

_SCALES = ("weight_scale", "input_scale")
"""Names of a quantized layer's scales in compressed-tensors."""


def require_finite(module: nn.Module) -> None:
    """Check a module's state; tensors on the device ``meta`` are left out.

    Raises:
        NotFiniteError: A parameter or a scale is infinite or not a number, a scale is not positive, or a buffer is not
            a number; names it.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    state = module.state_dict()
    # Buffers may hold infinities, as masks do.
    strict = {name: tensor for name, tensor in state.items() if name in parameters or name.endswith(_SCALES)}
    refuse_infinite(strict.items())
    for name, tensor in state.items():
        if name not in strict and _is_float(tensor) and bool(tensor.isnan().any()):
            raise _error(name)


def refuse_infinite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Check tensors by name.

    Raises:
        NotFiniteError: A tensor is infinite or NaN, or is a scale that is not positive; names it.
    """
    import torch

    for name, tensor in tensors:
        if not _is_float(tensor):
            continue
        # One pass gives both ends of the range, and NaN makes either end NaN.
        low, high = torch.aminmax(tensor.detach())
        if not (low.isfinite() and high.isfinite()):
            raise _error(name)
        if name.endswith(_SCALES) and not low > 0:
            raise _error(name, "positive")
        release_pages(tensor)


def _is_float(tensor: Tensor) -> bool:
    """Return true if a tensor is in memory and comparable, which 8-bit floats are not."""
    return tensor.is_floating_point() and tensor.element_size() > 1 and not tensor.is_meta and tensor.numel() > 0


def _error(name: str, quality: str = "finite") -> NotFiniteError:
    layer, _, attribute = name.rpartition(".")
    what = f"the {attribute} of the layer {layer!r}" if layer else f"the tensor {name!r}"
    return NotFiniteError(f"{what} is not {quality}; the model is damaged")
