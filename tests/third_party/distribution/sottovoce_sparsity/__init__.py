"""A plugin that owns no model family and adds to all of them: how sparse are a model's weights?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sottovoce
from sottovoce_sparsity.zero_weights import sottovoce_compress

if TYPE_CHECKING:
    from click import Command

__all__ = ["sottovoce_commands", "sottovoce_compress"]


@sottovoce.hookimpl
def sottovoce_commands() -> Iterable[Command]:
    """Return ``sottovoce sparsity``."""
    from sottovoce_sparsity.commands import sparsity

    return [sparsity]
