"""Outputs of a block before its steps change it, for steps that fit it to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sottovoce.calibration.activation_cache import ActivationCache

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.calibration.blocks import Block


class KeptOutputs:
    """Hidden states that a block gave for the inputs that wait at it, by the key of the sample."""

    def __init__(self, on_disk: bool = False) -> None:
        """Begin with none.

        Args:
            on_disk: If true, they lie in temporary files, for work within a memory limit.
        """
        self._cache = ActivationCache(0 if on_disk else None)
        self._states: dict[str, Tensor] = {}

    def keep(self, block: Block) -> None:
        """Run a block on all of its inputs, and keep what it gives."""
        # It needs torch, which importing this does not.
        from sottovoce.calibration.blocks import hidden_states

        for thread, output in zip(block.sample_threads, block.run(), strict=True):
            if (states := hidden_states(output)) is not None:
                copy = states.clone()
                self._states[thread.sample.key] = copy
                self._cache.hold(copy, copy)

    def __contains__(self, key: str) -> bool:
        return key in self._states

    @contextmanager
    def states(self, key: str) -> Iterator[Tensor]:
        """Have the hidden states of a sample in memory."""
        states = self._cache.borrow(self._states[key])
        try:
            yield states
        finally:
            self._cache.give_back(states)

    def close(self) -> None:
        """Forget all."""
        self._states.clear()
        self._cache.close()
