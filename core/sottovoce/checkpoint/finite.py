"""Weights that are numbers, and scales that are positive: what is not is told before any work, by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sottovoce.errors import NotFiniteError
from sottovoce.system.machine import release_pages

if TYPE_CHECKING:
    from torch import Tensor, nn

_SCALES = ("weight_scale", "input_scale")
"""What compressed-tensors calls the scales of a quantized layer."""


def require_finite(module: nn.Module) -> None:
    """Look through a module's state; what is not in memory is left out.

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
    """Look through tensors by name.

    Raises:
        NotFiniteError: One is infinite or not a number, or is a scale that is not positive; names it.
    """
    import torch

    for name, tensor in tensors:
        if not _is_float(tensor):
            continue
        # Both ends of the range: one pass, and neither hides a value that is not a number.
        low, high = torch.aminmax(tensor.detach())
        if not (low.isfinite() and high.isfinite()):
            raise _error(name)
        if name.endswith(_SCALES) and not low > 0:
            raise _error(name, "positive")
        release_pages(tensor)


def _is_float(tensor: Tensor) -> bool:
    """Whether a tensor is in memory and of a kind that can be compared; eight-bit floats cannot."""
    return tensor.is_floating_point() and tensor.element_size() > 1 and not tensor.is_meta and tensor.numel() > 0


def _error(name: str, quality: str = "finite") -> NotFiniteError:
    layer, _, own = name.rpartition(".")
    what = f"the {own} of the layer {layer!r}" if layer else f"the tensor {name!r}"
    return NotFiniteError(f"{what} is not {quality}; the model is damaged")
