"""Blocks on disk, for the runner: those of a streamed model, and those that interrupted work resumes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.resume import CompletedBlocks

if TYPE_CHECKING:
    from pathlib import Path

    from sottovoce.calibration.block_step import BlockStep
    from sottovoce.calibration.calibration import Calibration
    from sottovoce.model import Model


class BlockStorage:
    """Loader and keeper of the blocks of one model."""

    def __init__(self, model: Model, resumable: CompletedBlocks) -> None:
        self._model, self._resumable = model, resumable

    @classmethod
    def of(cls, model: Model, steps: Sequence[BlockStep], calibration: Calibration) -> BlockStorage:
        """Return the storage for a pass of ``steps``, in the calibration's directory or a temporary one."""
        return cls(model, CompletedBlocks(_directory(model, steps, calibration), calibration.key, model.rename))

    def restore(self, name: str, prepare: Callable[[Mapping[str, Any]], None]) -> bool:
        """Read back a block that interrupted work kept; return whether there was one.

        Args:
            name: The block.
            prepare: Called with the facts that were kept, to put the layers in place that the tensors are for.
        """
        restored = self._resumable.restore(self._model.module, name, prepare) is not None
        if restored:
            self._note(name)
        return restored

    def load(self, name: str) -> None:
        """Read a block of a streamed model into memory."""
        stream = self._model.stream
        if stream is not None and self._model.rename is not None:
            stream.load_block(name, self._model.rename)

    def keep(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write a block that was changed, with facts about its layers."""
        self._resumable.keep(self._model.module, name, facts)
        self._note(name)

    def offload(self, name: str) -> None:
        """Free the memory of a block of a streamed model."""
        stream = self._model.stream
        if stream is not None and name in stream.blocks:
            stream.offload_block(name)

    def _note(self, name: str) -> None:
        stream = self._model.stream
        if stream is not None and name in stream.blocks:
            stream.note(name, self._resumable.path(name), self._resumable.digests[name])


def _directory(model: Model, steps: Sequence[BlockStep], calibration: Calibration) -> Path | None:
    directory = calibration.directory
    if calibration.float_backup is not None and (len(steps) > 1 or any(step.rescales_weights for step in steps)):
        # A gate restores layers as they were scaled, or left by an earlier step, which a kept block does not tell.
        directory = None
    only_observes = all(step.only_observes for step in steps)
    if model.stream is not None and directory is None and steps and not only_observes:
        directory = model.stream.new_directory()
    return directory
