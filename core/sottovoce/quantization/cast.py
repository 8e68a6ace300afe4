"""Rounding of a model's float32 tensors to 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sottovoce.checkpoint.narrow_floats import store_floats_, wide_floats
from sottovoce.errors import RecipeError
from sottovoce.quantization.cast_step import STORED_FLOATS, Cast
from sottovoce.report import StepReport

if TYPE_CHECKING:
    from sottovoce.model import Model


def cast_(model: Model, step: Cast) -> StepReport:
    """Round the tensors in place, and say to the model how it is stored.

    Raises:
        RecipeError: A weight is beyond the range of the dtype, or the model is read block by block; nothing is changed.
    """
    dtype: torch.dtype = getattr(torch, step.dtype)
    if model.stream is not None:
        raise RecipeError(
            f"cast: {model.source.name} is read block by block, and would be written so; load it in 16 bits instead "
            f"(--dtype {step.dtype}), or raise --max-memory"
        )
    floats = dict(wide_floats(model.module))
    for name, tensor in floats.items():
        _check_range(name, tensor, dtype)
    for name in floats:
        owner, _, attribute = name.rpartition(".")
        module = model.module.get_submodule(owner)
        if attribute in module._buffers:
            module._buffers[attribute] = _rounded(floats[name], dtype)
        else:
            # The parameter stays the same object, which others may share.
            parameter = module.get_parameter(attribute)
            parameter.data = _rounded(parameter.data, dtype)
    if floats:
        store_floats_(model.module, dtype)
    count = sum(tensor.numel() for tensor in {id(tensor): tensor for tensor in floats.values()}.values())
    notes = () if floats else ("there are no 32-bit floats; nothing is changed",)
    return StepReport(
        step=step.to_dict(),
        notes=notes,
        details={STORED_FLOATS: step.dtype, "parameters": count, "tensors": len(floats)},
    )


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.detach().to(dtype).to(tensor.dtype)


def largest_finite(tensor: Tensor) -> float:
    """Return the largest magnitude of what is finite: a mask may hold infinities, which every dtype has."""
    if tensor.is_meta or not tensor.numel():
        return 0.0
    return float(tensor.detach().nan_to_num(0.0, 0.0, 0.0).abs().max())


def _check_range(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if (largest := largest_finite(tensor)) > torch.finfo(dtype).max:
        raise RecipeError(f"cast: {name} holds {largest:.3g}, which {dtype} has no number for; give dtype: bfloat16")
