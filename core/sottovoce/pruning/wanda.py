"""Wanda: a weight matters by its size times the norm of its input, compared within each output.

Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", https://arxiv.org/abs/2306.11695.
"""

from __future__ import annotations

from torch import Tensor

from sottovoce.pruning.zeros import zeros_in_groups, zeros_in_rows


def wanda(weight: Tensor, moments: Tensor, share: float | None) -> Tensor:
    """Return a weight with zeros; the others stay as they are.

    Args:
        weight: Float32 ``[out, in]``; left as it is.
        moments: Mean second moments of the inputs ``[in, in]``; their diagonal gives the norms.
        share: Share of zeros in every row; ``None`` for two of every four adjacent inputs.
    """
    scores, zero = weight.abs() * moments.diagonal().sqrt(), weight == 0
    mask = zeros_in_groups(scores, zero) if share is None else zeros_in_rows(scores, zero, share)
    return weight.masked_fill(mask, 0)
