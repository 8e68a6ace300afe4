"""Cache of the activations between two blocks: in memory up to a limit, on disk above it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage


class ActivationCache:
    """Cache of nested tensors; those over the limit are written to temporary files and their memory is freed.

    A tensor stays the object that it is: only its storage is emptied and filled again, so whoever refers to it sees
    the same values, once it is borrowed.
    """

    def __init__(self, limit_bytes: int | None = None, directory: Path | None = None) -> None:
        """Create an empty cache.

        Args:
            limit_bytes: Most bytes to hold in memory; ``None`` means no limit.
            directory: Directory for the files; by default the system's for temporary files.
        """
        self._limit, self._directory = limit_bytes, directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._in_memory: dict[int, int] = {}
        self._owners: dict[int, int] = {}
        self._files: dict[int, tuple[Path, int]] = {}
        self._count = 0
        self.spilled_bytes = 0
        """Bytes that were written to disk in all."""

    def hold(self, inputs: Any, output: Any = None) -> None:
        """Keep a sample's inputs until they are released.

        Args:
            inputs: Nested tensors.
            output: The output of a block that the inputs came from. Only its tensors go to disk: the model may keep any
                other for itself, such as a table of positions, and read it while this sample waits.
        """
        movable = {storage._cdata for storage in _storages(output)}
        for storage in _storages(inputs):
            key = storage._cdata
            self._owners[key] = self._owners.get(key, 0) + 1
            if self._owners[key] > 1:
                continue  # several samples share it, such as a table of positions
            self._in_memory[key] = storage.nbytes()
            over = self._limit is not None and sum(self._in_memory.values()) > self._limit
            if over and key in movable:
                self._write(storage)

    def borrow(self, inputs: Any) -> Any:
        """Make the inputs readable; :meth:`give_back` frees their memory again."""
        for storage in _storages(inputs):
            if (file := self._files.get(storage._cdata)) is not None and not storage.nbytes():
                _read(storage, *file)
        return inputs

    def give_back(self, inputs: Any) -> None:
        """Free the memory that :meth:`borrow` took."""
        for storage in _storages(inputs):
            if storage._cdata in self._files:
                storage.resize_(0)

    def release(self, inputs: Any) -> None:
        """Make the inputs readable, and hold them no longer."""
        self.borrow(inputs)
        for storage in _storages(inputs):
            key = storage._cdata
            self._owners[key] = self._owners.get(key, 1) - 1
            if self._owners[key] > 0:
                continue
            del self._owners[key]
            self._in_memory.pop(key, None)
            if (file := self._files.pop(key, None)) is not None:
                file[0].unlink()

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _write(self, storage: UntypedStorage) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sottovoce-", dir=self._directory)
        self._count += 1
        path = Path(self._folder.name) / str(self._count)
        size = storage.nbytes()
        # Of a copy: a storage that numpy has seen can no longer be emptied.
        try:
            path.write_bytes(_bytes(storage).clone().numpy().data)
        except OSError as error:
            raise OutputError(f"{self._folder.name}: activations could not be written ({error})") from error
        self._files[storage._cdata] = (path, size)
        self._in_memory.pop(storage._cdata)
        self.spilled_bytes += size
        storage.resize_(0)


def _read(storage: UntypedStorage, path: Path, size: int) -> None:
    import numpy
    import torch

    storage.resize_(size)
    _bytes(storage).copy_(torch.from_numpy(numpy.fromfile(path, dtype=numpy.uint8)))


def _bytes(storage: UntypedStorage) -> Tensor:
    import torch

    return torch.empty(0, dtype=torch.uint8).set_(storage, 0, (storage.nbytes(),), (1,))


def _storages(inputs: Any) -> Iterator[UntypedStorage]:
    """Yield the storages of the CPU tensors in nested inputs, each once."""
    from torch import nn
    from torch.utils import _pytree

    seen: set[int] = set()
    for leaf in _pytree.tree_leaves(inputs):
        if not hasattr(leaf, "untyped_storage") or isinstance(leaf, nn.Parameter) or leaf.device.type != "cpu":
            continue
        storage = leaf.untyped_storage()
        if storage._cdata not in seen and storage.resizable():
            seen.add(storage._cdata)
            yield storage
