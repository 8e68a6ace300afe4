"""The rule by which experts of a token do not run, and the count of those that do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sottovoce.system import distributed

NOT_RUN = -1
"""Expert number that stands for none: the token takes no expert there."""


@dataclass(frozen=True)
class Skipping:
    """Rule by which experts of a token do not run."""

    threshold: float
    """Share of the token's largest gate value, 0 to 1; an expert whose gate is under it does not run."""
    renormalize: bool = False
    """If true, the gate values that are left are raised to the sum of all."""

    def skipped(self, top_k_weights: Tensor) -> Tensor:
        """Return a mask of the gate values ``[tokens, top_k]``, none negative, that are too small."""
        gates = _precise(top_k_weights)
        # A gate that is NaN is not under anything and stays, so that damage is seen.
        return gates < self.threshold * gates.amax(-1, keepdim=True)

    def __call__(self, top_k_index: Tensor, top_k_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Take the experts that do not run out of a routing.

        Args:
            top_k_index: int64 ``[tokens, top_k]``, the experts of each token.
            top_k_weights: Their gate values ``[tokens, top_k]``, which are not negative.

        Returns:
            The experts, with :data:`NOT_RUN` for those that do not run, and the gate values.
            A token that loses none keeps the very same.
        """
        skipped = self.skipped(top_k_weights)
        index = top_k_index.masked_fill(skipped, NOT_RUN)
        if not self.renormalize:
            return index, top_k_weights
        gates = _precise(top_k_weights)
        left = gates.masked_fill(skipped, 0).sum(-1, keepdim=True)
        # Where all gates are zero there is nothing to share out.
        growth = gates.sum(-1, keepdim=True) / left.clamp(min=torch.finfo(gates.dtype).tiny)
        return index, (gates * growth).to(top_k_weights.dtype)


@dataclass
class ExpertRuns:
    """Counts of experts that ran."""

    tokens: int = 0
    """Tokens that reached the experts of a layer, over all layers."""
    runs: int = 0
    """Experts that ran for them."""

    def add(self, tokens: int, runs: int) -> None:
        """Count what one layer was given at once."""
        self.tokens += tokens
        self.runs += runs

    def summed(self) -> ExpertRuns:
        """Return the counts of all processes."""
        return ExpertRuns(sum(distributed.gather(self.tokens)), sum(distributed.gather(self.runs)))

    @property
    def per_token(self) -> float | None:
        """Experts that ran for a token in the mean of all layers; ``None`` for a model that has none."""
        return self.runs / self.tokens if self.tokens else None


def _precise(gates: Tensor) -> Tensor:
    return gates.to(torch.promote_types(gates.dtype, torch.float32))
