"""The finished blocks of a long compression, kept beside the output until it is whole."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.shard_writer import write_file
from sottovoce.errors import OutputError

if TYPE_CHECKING:
    import torch
    from torch import nn

_KEY = "key.json"
_ANY = "[0-9a-f]" * 16
_KINDS = ("safetensors", "json", "part")


class FinishedBlocks:
    """Keeps the tensors of every finished block: interrupted work takes them back instead of doing it again."""

    def __init__(self, directory: Path | None, key: str, rename: Callable[[str], str] | None = None) -> None:
        """Look what is there; the directory is made with the first block.

        Args:
            directory: Where the blocks are kept; ``None`` keeps nothing.
            key: What they belong to. Blocks of another key are removed.
            rename: A tensor's name in the module to the name that it is stored under.
        """
        self._directory, self._key = directory, json.dumps(key).encode()
        self._rename = rename or (lambda name: name)
        if directory is None:
            return
        path = directory / _KEY
        if not path.is_file() or path.read_bytes() != self._key:
            # Only what looks like a block: the directory is one that somebody named.
            for block in (found for kind in _KINDS for found in directory.glob(f"{_ANY}.{kind}")):
                block.unlink()
            path.unlink(missing_ok=True)

    def keep(self, module: nn.Module, name: str, facts: Mapping[str, Any]) -> None:
        """Write the block ``name`` of ``module``, with facts about its layers.

        Raises:
            OutputError: The file system refused, a full disk for instance.
        """
        if self._directory is None:
            return
        path = self.path(name)
        state = module.get_submodule(name).state_dict()
        tensors = {self._rename(f"{name}.{key}"): tensor.contiguous() for key, tensor in state.items()}
        temporary = path.with_suffix(".part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            (self._directory / _KEY).write_bytes(self._key)
            path.with_suffix(".json").write_text(json.dumps(dict(facts)), encoding="utf-8")
            write_file(tensors, temporary)
            # A block is there whole or not at all.
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutputError(f"{self._directory}: could not be written ({error})") from error

    def restore_(
        self, module: nn.Module, name: str, prepare: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any] | None:
        """Put a kept block's tensors into the module.

        Args:
            module: The model.
            name: The block.
            prepare: Called with the facts that were kept, to put the layers in place that the tensors are for.

        Returns:
            The facts that were kept, or ``None`` when the block was not finished.
        """
        if self._directory is None or not (path := self.path(name)).is_file():
            return None
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                stored = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  # not a mapping
            facts: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except (SafetensorError, OSError, ValueError):
            return None  # The machine went down before it was written out.
        device = _device(module.get_submodule(name))
        prepare(facts)
        child = module.get_submodule(name)
        tensors = {key: stored[self._rename(f"{name}.{key}")].to(device) for key in child.state_dict()}
        child.load_state_dict(tensors, strict=True, assign=True)
        return facts

    def path(self, name: str) -> Path:
        """The file of a block."""
        assert self._directory is not None
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.safetensors"


def _device(block: nn.Module) -> torch.device | str:
    """Where a block lies; one that is still on disk goes to the CPU."""
    tensors = itertools.chain(block.parameters(), block.buffers())
    return next((tensor.device for tensor in tensors if not tensor.is_meta), "cpu")
