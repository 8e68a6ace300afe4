"""Writer of a checkpoint in shards of limited size, with the index of its tensors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.checkpoint.shards import INDEX, WEIGHTS, Shards
from sottovoce.system.machine import release_pages
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 2_000_000_000
_LENGTH = 8
"""Bytes at the start of a safetensors file that hold the length of its header."""


class ShardWriter:
    """Writer of tensors to files of limited size, which get their final names in :meth:`close`."""

    def __init__(self, directory: Path, shard_bytes: int = SHARD_BYTES) -> None:
        """Prepare to write.

        Args:
            directory: Existing directory for the files.
            shard_bytes: Largest size of a file; a single tensor may be larger.
        """
        self._directory, self._limit = directory, shard_bytes
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._files: list[tuple[Path, list[str]]] = []
        self.total_bytes = 0

    def add(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Write tensors under their names.

        Raises:
            OSError: The file system refused, a full disk for instance.
        """
        for name, tensor in tensors:
            if self._pending and self._pending_bytes + tensor.nbytes > self._limit:
                self.flush()
            self._pending[name] = tensor.detach().contiguous()
            self._pending_bytes += tensor.nbytes

    def add_file(self, path: Path) -> None:
        """Add a safetensors file unchanged: linked if the file system can, otherwise copied."""
        self.flush()
        target = self._part()
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
        names = list(Shards([path]).names)
        self._files.append((target, names))
        with path.open("rb") as file:
            header = int.from_bytes(file.read(_LENGTH), "little")
        self.total_bytes += path.stat().st_size - _LENGTH - header

    def close(self) -> None:
        """Give the files their final names and write the index.

        Raises:
            OSError: The file system refused.
        """
        self.flush()
        if len(self._files) == 1:
            self._files[0][0].rename(self._directory / WEIGHTS)
            return
        weight_map: dict[str, str] = {}
        for number, (path, names) in enumerate(self._files, 1):
            file = f"model-{number:05d}-of-{len(self._files):05d}.safetensors"
            path.rename(self._directory / file)
            weight_map.update(dict.fromkeys(names, file))
        index = {"metadata": {"total_size": self.total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (self._directory / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def _part(self) -> Path:
        return self._directory / f"{len(self._files):05d}.part"

    def flush(self) -> None:
        """Write the collected tensors to a new file.

        Raises:
            OSError: The file system refused.
        """
        if not self._pending:
            return
        path = self._part()
        write_file(self._pending, path)
        for tensor in self._pending.values():
            release_pages(tensor)
        self._files.append((path, list(self._pending)))
        self.total_bytes += self._pending_bytes
        self._pending, self._pending_bytes = {}, 0


def write_file(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file with the permissions of any new file.

    Of tensors that share memory, every one is written.

    Raises:
        OSError: The file system refused, a full disk for instance.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    written: dict[str, Tensor] = {}
    ranges: dict[int, list[tuple[int, int]]] = {}
    for name, tensor in tensors.items():
        # Not by storage alone: all tensors of a mapped file have the same storage, but do not overlap.
        begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        taken = ranges.setdefault(tensor.untyped_storage().data_ptr(), [])
        shared = any(begin < other_end and other < end for other, other_end in taken)
        written[name] = tensor.clone() if shared else tensor
        taken.append((begin, end))
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(written, path, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:
        raise OSError(one_line(error, 200)) from error
    # safetensors creates files that only their owner may read.
    path.chmod(mode)
