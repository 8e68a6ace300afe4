"""Tensors and facts of one block on disk, with the digests that reveal damage."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.shard_writer import write_file
from sottovoce.system.atomic_write import write_atomically

if TYPE_CHECKING:
    from torch import Tensor


class DamagedError(Exception):
    """The content of a file has changed since it was written."""


@dataclass(frozen=True)
class BlockFile:
    """Safetensors file and a JSON file that is written after it; a block with both is finished.

    Reading tensors does not reveal a flipped bit, or zeros that a power cut leaves behind an intact header, so the JSON
    file holds their digest and its own.
    """

    path: Path
    """The safetensors file."""
    key: str
    """Identity of the work that the block belongs to."""

    @property
    def is_finished(self) -> bool:
        """If true, both files were written, by their names."""
        return self._facts.is_file()

    @property
    def _facts(self) -> Path:
        return self.path.with_suffix(".json")

    def write(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
        """Write the block, and return the sha256 of its tensors' file.

        Raises:
            OSError: The file system refused; a block that was there before may be gone.
        """
        temporary = self.path.with_suffix(".part")
        try:
            write_file(tensors, temporary)
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            temporary.replace(self.path)
            block = json.dumps({"key": self.key, "tensors": digest, "facts": dict(facts)})
            write_atomically(self._facts, json.dumps({"sha256": _sha256(block.encode()), "block": block}))
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    def read(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """Return the sha256 of the tensors' file, the facts and the tensors.

        Raises:
            DamagedError: A file has changed since it was written, or belongs to other work.
        """
        from safetensors.torch import load

        try:
            form = json.loads(self._facts.read_bytes())
            block = json.loads(form["block"]) if form["sha256"] == _sha256(form["block"].encode()) else {}
            # Read once, so that the bytes that are used are the bytes that were checked.
            content = self.path.read_bytes()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedError(self.path) from error
        if block.get("key") != self.key or block["tensors"] != _sha256(content):
            raise DamagedError(self.path)
        return block["tensors"], block["facts"], load(content)

    def remove(self) -> None:
        """Remove both files, the facts first."""
        self._facts.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
