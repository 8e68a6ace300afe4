"""Experts that do not run for a token whose router says that they hardly matter.

This is the dynamic skipping of NAEE (Lu et al., "Not All Experts are Equal", https://arxiv.org/abs/2402.14800), which
leaves the second of two experts out where its gate is under a share of the first's; here any of those that a token is
routed to. A model's configuration has the settings next to the number of experts, under :data:`THRESHOLD` and
:data:`RENORMALIZE`. Sottovoce honors them when it loads a model. Transformers by itself reads them, ignores
them and runs every expert: that is the model without skipping, which is as good as it was and takes as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sottovoce.architecture import matches
from sottovoce.errors import CheckpointError
from sottovoce.runtime.experts import NOT_RUN, experts_in

if TYPE_CHECKING:
    from sottovoce.architecture import ExpertLayout

THRESHOLD, RENORMALIZE = "expert_skip_threshold", "expert_skip_renormalize"
"""The settings in a configuration."""


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
            The experts, with :data:`~sottovoce.runtime.experts.NOT_RUN` for those that do not run, and the gate values.
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

    @property
    def per_token(self) -> float | None:
        """Experts that ran for a token in the mean of all layers; ``None`` for a model that has none."""
        return self.runs / self.tokens if self.tokens else None


@contextmanager
def counting_expert_runs(module: nn.Module) -> Iterator[ExpertRuns]:
    """Count how often the experts in ``module`` run meanwhile."""
    counted = ExpertRuns()
    mixtures = [experts for _, experts in experts_in(module)]
    try:
        for experts in mixtures:
            experts.counted = counted
        yield counted
    finally:
        for experts in mixtures:
            experts.counted = None


def settings_of(config: Any, layout: ExpertLayout) -> Any:
    """Return the part of a configuration that counts the experts of a layout; ``None`` where the model lacks it."""
    for name in layout.count.split(".")[:-1]:
        config = getattr(config, name, None)
    return config


def install_skipping_(module: nn.Module, config: Any, layouts: Iterable[ExpertLayout]) -> tuple[str, ...]:
    """Have the experts of a loaded model skip as its configuration says; without the settings nothing changes.

    Args:
        module: The model, its experts as :class:`~sottovoce.runtime.experts.Experts`.
        config: Its configuration.
        layouts: Where the experts are, and their settings.

    Returns:
        The names of the experts that skip now.

    Raises:
        CheckpointError: The threshold is not between 0 and 1, or the other setting not true or false.
    """
    known = [(layout.experts, _read(config, layout)) for layout in layouts]
    installed = []
    for name, experts in experts_in(module):
        kind = type(experts).__name__
        experts.skipping = next((skipping for pattern, skipping in known if matches(name, kind, pattern)), None)
        if experts.skipping is not None:
            installed.append(name)
    return tuple(installed)


def _read(config: Any, layout: ExpertLayout) -> Skipping | None:
    settings = settings_of(config, layout)
    threshold, renormalize = getattr(settings, THRESHOLD, None), getattr(settings, RENORMALIZE, False)
    if threshold is None:
        return None
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        raise CheckpointError(f"config.json: {THRESHOLD} must be a number between 0 and 1, not {threshold!r}")
    if not isinstance(renormalize, bool):
        raise CheckpointError(f"config.json: {RENORMALIZE} must be true or false, not {renormalize!r}")
    return Skipping(threshold, renormalize)


def _precise(gates: Tensor) -> Tensor:
    return gates.to(torch.promote_types(gates.dtype, torch.float32))
