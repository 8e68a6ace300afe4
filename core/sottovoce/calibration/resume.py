"""Completed blocks of a long compression, kept next to the output until it is complete."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.block_file import BlockFile, DamagedError
from sottovoce.errors import OutputError, PluginError
from sottovoce.system import distributed
from sottovoce.system.atomic_write import write_atomically

if TYPE_CHECKING:
    import torch
    from torch import nn

_KEY = "key.json"
_VERSION = 2
"""Version of the files; blocks of another version are removed."""
_ANY = "[0-9a-f]" * 16
_KINDS = ("safetensors", "json", "part", "json.*.part")

_log = logging.getLogger("sottovoce")


class CompletedBlocks:
    """Keeper of the tensors of completed blocks: interrupted work resumes from them."""

    def __init__(self, directory: Path | None, key: str, rename: Callable[[str], str] | None = None) -> None:
        """Remove blocks of other work; the directory is created with the first block.

        Args:
            directory: Directory of the blocks; ``None`` keeps nothing.
            key: Identity of the work: model, recipe, samples. Blocks of another key are removed.
            rename: Function from a tensor's name in the module to the name that it is stored under.
        """
        self._directory, self._key = directory, json.dumps({"form": _VERSION, "key": key})
        self._rename = rename or (lambda name: name)
        self.digests: dict[str, str] = {}
        """SHA-256 of the file of every block that was kept or restored, as it was then."""
        if directory is None or not distributed.is_main():
            return
        path = directory / _KEY
        if not path.is_file() or path.read_bytes() != self._key.encode():
            # Only files that look like blocks: a user named the directory.
            for block in (file for kind in _KINDS for file in directory.glob(f"{_ANY}.{kind}")):
                block.unlink()
            path.unlink(missing_ok=True)

    def keep(self, module: nn.Module, name: str, facts: Mapping[str, Any]) -> None:
        """Write the block ``name`` of ``module``, with facts about its layers; of several processes the main one does.

        Raises:
            OutputError: The file system refused, a full disk for instance.
        """
        if self._directory is None or not distributed.is_main():
            return
        state = module.get_submodule(name).state_dict()
        tensors = {self._rename(f"{name}.{key}"): tensor.contiguous() for key, tensor in state.items()}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if not (self._directory / _KEY).is_file():
                write_atomically(self._directory / _KEY, self._key)
            self.digests[name] = BlockFile(self.path(name), self._key).write(tensors, facts)
        except OSError as error:
            raise OutputError(f"{self._directory}: could not be written ({error})") from error
        except TypeError as error:
            raise PluginError(f"{name}: a step's facts on the block are not in the form of JSON ({error})") from error

    def restore(
        self, module: nn.Module, name: str, prepare: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any] | None:
        """Put a kept block's tensors into the module; a damaged block is removed, with a warning.

        Args:
            module: The model.
            name: The block.
            prepare: Called with the facts that were kept, to put the layers in place that the tensors are for.

        Returns:
            The facts that were kept, or ``None`` when the block was not finished or is damaged.

        Raises:
            OutputError: The block is whole, but not of this model.
        """
        if self._directory is None:
            return None
        kept = self._read(name)
        # A process on another machine may not see the file; then all process the block again.
        if not all(distributed.gather(kept is not None)) or kept is None:
            return None
        digest, facts, stored = kept
        device = _device(module.get_submodule(name))
        prepare(facts)
        child = module.get_submodule(name)
        names = {key: self._rename(f"{name}.{key}") for key in child.state_dict()}
        if not set(names.values()) <= stored.keys():
            raise OutputError(f"{self._directory}: the block {name} is of another model; remove the directory")
        # A copy is aligned as PyTorch aligns its own tensors.
        tensors = {key: stored.pop(stored_as).clone().to(device) for key, stored_as in names.items()}
        child.load_state_dict(tensors, strict=True, assign=True)
        self.digests[name] = digest
        return facts

    def _read(self, name: str) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]] | None:
        file = BlockFile(self.path(name), self._key)
        if not file.is_finished:
            return None
        try:
            return file.read()
        except DamagedError:
            file.remove()
            _log.warning("%s: the completed block %s is damaged; it is processed again", self._directory, name)
            return None

    def path(self, name: str) -> Path:
        """Return the file of a block."""
        assert self._directory is not None
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"


def _device(block: nn.Module) -> torch.device | str:
    """Return the device of a block; the CPU for one that is still on disk."""
    tensors = itertools.chain(block.parameters(), block.buffers())
    return next((tensor.device for tensor in tensors if not tensor.is_meta), "cpu")
