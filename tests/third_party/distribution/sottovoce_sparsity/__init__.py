"""A plugin that owns no model family and adds to all of them: how sparse are a model's weights?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sottovoce
from sottovoce_sparsity import biased_rounding, npz
from sottovoce_sparsity.nonzero_parameters import sottovoce_evaluate
from sottovoce_sparsity.zero_weights import sottovoce_compress

if TYPE_CHECKING:
    from click import Command

__all__ = ["biased_rounding", "npz", "sottovoce_commands", "sottovoce_compress", "sottovoce_evaluate"]


@sottovoce.hookimpl
def sottovoce_commands() -> Iterable[Command]:
    """Return ``sottovoce sparsity``."""
    from sottovoce_sparsity.commands import sparsity

    return [sparsity]
