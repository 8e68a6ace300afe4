"""The step ``cast`` in a search: what no choice quantizes is stored in 16 bits, if the search may have the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sottovoce.checkpoint.narrow_floats import wide_floats
from sottovoce.quantization.cast import largest_finite
from sottovoce.quantization.cast_step import Cast

if TYPE_CHECKING:
    from torch import nn

CAST = Cast.name
"""Name of the step."""


def cast_of(module: nn.Module) -> Cast | None:
    """Return the step for a model: in float16, or in bfloat16 where a weight is beyond its range.

    Returns:
        ``None`` if the model has no 32-bit floats.
    """
    largest = [largest_finite(tensor) for _, tensor in wide_floats(module)]
    if not largest:
        return None
    return Cast(dtype="float16" if max(largest) <= torch.finfo(torch.float16).max else "bfloat16")
