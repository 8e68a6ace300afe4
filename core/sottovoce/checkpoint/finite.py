"""Weights that are numbers: what is not is told before any work, by the tensor's name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sottovoce.errors import NotFiniteError
from sottovoce.machine import release_pages

if TYPE_CHECKING:
    from torch import Tensor, nn


def require_finite(module: nn.Module) -> None:
    """Look through a module's state; what is not in memory is left out.

    Raises:
        NotFiniteError: A parameter is infinite or not a number, or a buffer is not a number; names it.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    state = module.state_dict()
    # Buffers may hold infinities, as masks do.
    refuse_infinite((name, tensor) for name, tensor in state.items() if name in parameters)
    for name, tensor in state.items():
        if name not in parameters and _is_float(tensor) and bool(tensor.isnan().any()):
            raise _error(name)


def refuse_infinite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Look through tensors by name.

    Raises:
        NotFiniteError: One is infinite or not a number; names it.
    """
    import torch

    for name, tensor in tensors:
        if not _is_float(tensor):
            continue
        # Both ends of the range: one pass, and neither hides a value that is not a number.
        low, high = torch.aminmax(tensor.detach())
        if not (low.isfinite() and high.isfinite()):
            raise _error(name)
        release_pages(tensor)


def _is_float(tensor: Tensor) -> bool:
    """Whether a tensor is in memory and of a kind that can be compared; eight-bit floats cannot."""
    return tensor.is_floating_point() and tensor.element_size() > 1 and not tensor.is_meta and tensor.numel() > 0


def _error(name: str) -> NotFiniteError:
    layer, _, own = name.rpartition(".")
    what = f"the {own} of the layer {layer!r}" if layer else f"the tensor {name!r}"
    return NotFiniteError(f"{what} is not finite; the model is damaged")
