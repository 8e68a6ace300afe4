"""Change of the output of a layer's experts by pruning or skipping."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sottovoce.runtime.experts import Experts

_TOKENS = 4096
"""Tokens that outputs are compared on at a time."""


@dataclass(frozen=True)
class OutputChange:
    """Change of the output of a layer's experts, shared experts not counted."""

    error: float
    """Squared error, as a share of the power of the output before."""
    norm_before: float
    """Mean Euclidean norm of a token's output."""
    norm_after: float


@torch.no_grad()
def routed_output(experts: Experts, router: nn.Module, hidden: Tensor) -> Tensor:
    """Run the router and the experts of a layer on the tokens ``hidden`` ``[tokens, width]``; return the same size."""
    _, weight, index = router(hidden)
    output: Tensor = experts(hidden, index, weight)
    return output


def compare_outputs(before: Tensor, after: Tensor) -> OutputChange:
    """Compare the outputs of a layer's experts before and after a change, both ``[tokens, width]``."""
    power = error = norm_before = norm_after = 0.0
    for start in range(0, len(before), _TOKENS):
        old, new = (tensor[start : start + _TOKENS].double() for tensor in (before, after))
        power += float(old.square().sum())
        error += float((new - old).square().sum())
        norm_before += float(torch.linalg.vector_norm(old, dim=-1).sum())
        norm_after += float(torch.linalg.vector_norm(new, dim=-1).sum())
    tokens = max(len(before), 1)
    return OutputChange(error / power if power > 0 else 0.0, norm_before / tokens, norm_after / tokens)
