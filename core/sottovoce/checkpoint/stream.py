"""Streaming of a model whose blocks stay on disk, so that only the current one is in memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sottovoce.checkpoint.finite import refuse_infinite
from sottovoce.checkpoint.manifest import digest_of
from sottovoce.checkpoint.narrow_floats import stored_floats
from sottovoce.checkpoint.shard_writer import ShardWriter
from sottovoce.checkpoint.shards import Shards
from sottovoce.checkpoint.weights import drop_data_, stored_state
from sottovoce.errors import CheckpointError, OutputError
from sottovoce.report.number_format import counted
from sottovoce.system.machine import release_memory, release_pages

if TYPE_CHECKING:
    from torch import Tensor, nn


Rename = Callable[[str], str]


class Stream:
    """Loader of the blocks of a module, one at a time.

    Tensors outside the blocks are read from the source's files as they are used. A block is loaded from the source
    until it has been changed and its own file is recorded (see :meth:`note`); then from that file.
    """

    def __init__(self, module: nn.Module, blocks: Mapping[str, Mapping[str, str]], source: Shards) -> None:
        """Prepare to load the blocks of ``module``.

        Args:
            module: The model; its blocks have no data (meta tensors).
            blocks: For each block, the names of its tensors in the module and in the source.
            source: The checkpoint.
        """
        self.module, self.source = module, source
        self.blocks = {block: dict(names) for block, names in blocks.items()}
        self.files: dict[str, Path] = {}
        """Files of the blocks that were changed, with tensors under their names in a checkpoint."""
        self._digests: dict[str, str] = {}
        self._folder: str | None = None

    def new_directory(self) -> Path:
        """Return a temporary directory for changed blocks, for work that is not resumable."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="sottovoce-blocks-")
            # A TemporaryDirectory would warn that nobody closed it; this one is removed with the model.
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder))

    def note(self, block: str, path: Path, sha256: str) -> None:
        """Load a block from its own file from now on; the file must not change."""
        self.files[block], self._digests[block] = path, sha256

    def require_written(self, digests: Iterable[str]) -> None:
        """Check that the files of all changed blocks are among the written files, unchanged.

        Args:
            digests: The sha256 of every file that was written.

        Raises:
            OutputError: The file of a block has changed meanwhile.
        """
        written = set(digests)
        for block, digest in self._digests.items():
            if digest not in written:
                raise OutputError(_changed(self.files[block], block))

    def load_block(self, block: str, rename: Rename) -> None:
        """Read a block into memory.

        Args:
            block: Its name in the module.
            rename: A name in the module to the name in a checkpoint.

        Raises:
            SourceError: The source is damaged.
            CheckpointError: The block's file does not have its tensors.
            NotFiniteError: A tensor is not finite.
            OutputError: The block's file has changed since it was recorded.
        """
        child = self.module.get_submodule(block)
        state = child.state_dict()
        if not any(tensor.is_meta for tensor in state.values()):
            return
        if block in self.files:
            self._require_unchanged(block)
            shards, names = Shards([self.files[block]]), {name: rename(f"{block}.{name}") for name in state}
        else:
            shards, names = self.source, {name: self.blocks[block][f"{block}.{name}"] for name in state}
        if lacking := [stored for stored in names.values() if shards.file_of(stored) is None]:
            raise CheckpointError(
                f"{block}: {counted(len(lacking), 'tensor is', 'tensors are')} missing, such as {lacking[0]!r}"
            )
        stored_tensors = shards.read(names.values())
        tensors = {name: stored_tensors.pop(stored).to(state[name].dtype) for name, stored in names.items()}
        refuse_infinite((f"{block}.{name}", tensor) for name, tensor in tensors.items())
        child.load_state_dict(tensors, strict=True, assign=True)

    def _require_unchanged(self, block: str) -> None:
        path = self.files[block]
        try:
            is_unchanged = block not in self._digests or digest_of(path) == self._digests[block]
        except OSError:
            is_unchanged = False
        if not is_unchanged:
            raise OutputError(_changed(path, block))

    def offload_block(self, block: str) -> None:
        """Free a block's memory; a changed block must have been written to its file."""
        drop_data_(self.module.get_submodule(block))
        release_memory()

    @contextmanager
    def loaded(self, parts: Iterable[nn.Module], rename: Rename) -> Iterator[None]:
        """Keep the blocks inside some parts of the module in memory, as long as the context lasts.

        Args:
            parts: Submodules of the module.
            rename: A name in the module to the name in a checkpoint.

        Raises:
            SottovoceError: As :meth:`load_block`.
        """
        inside = {id(module) for part in parts for module in part.modules()}
        blocks = [block for block in self.blocks if id(self.module.get_submodule(block)) in inside]
        try:
            for block in blocks:
                self.load_block(block, rename)
            yield
        finally:
            for block in blocks:
                self.offload_block(block)

    @property
    def largest_bytes(self) -> int:
        """Bytes of the largest block."""
        blocks = (self.module.get_submodule(block).state_dict().values() for block in self.blocks)
        return max((sum(tensor.nbytes for tensor in tensors) for tensors in blocks), default=0)

    def release_pages(self) -> None:
        """Release the pages of tensors outside the blocks; they are read again on use."""
        for tensor in self._outside().values():
            release_pages(tensor)

    def write(self, writer: ShardWriter, rename: Rename, left_out: Container[str] = ()) -> None:
        """Write the whole model: blocks from their files, one after another, then all else.

        Args:
            writer: Writer of the files.
            rename: A name in the module to the name in a checkpoint.
            left_out: Tensors outside of the blocks that are not stored, by their names in the module.

        Raises:
            OSError: The file system refused.
        """
        floats = stored_floats(self.module)
        for block in self.blocks:
            if block in self.files:
                writer.add_file(self.files[block])
                continue
            self.load_block(block, rename)
            state = stored_state(self.module.get_submodule(block), floats)
            writer.add((rename(f"{block}.{name}"), tensor) for name, tensor in state)
            writer.flush()
            self.offload_block(block)
        outside = {name for name in self._outside() if name not in left_out}
        writer.add((rename(name), tensor) for name, tensor in stored_state(self.module) if name in outside)

    def _outside(self) -> dict[str, Tensor]:
        inside = tuple(f"{block}." for block in self.blocks)
        return {name: tensor for name, tensor in self.module.state_dict().items() if not name.startswith(inside)}


def _changed(path: Path, block: str) -> str:
    return f"{path}: the file of block {block} changed on disk; nothing was written: give the same command again"
