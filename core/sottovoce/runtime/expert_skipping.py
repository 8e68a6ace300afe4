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
from typing import TYPE_CHECKING, Any

from torch import nn

from sottovoce.errors import CheckpointError
from sottovoce.recipe.pattern import matches
from sottovoce.runtime.experts import experts_in
from sottovoce.runtime.skipping_rule import ExpertRuns, Skipping

if TYPE_CHECKING:
    from sottovoce.architecture import ExpertLayout

THRESHOLD, RENORMALIZE = "expert_skip_threshold", "expert_skip_renormalize"
"""The settings in a configuration."""


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
