"""Walking a model block by block: every sample waits at a block until the block is done with, then all go on.

Each sample's forward pass runs in a thread of its own, and only one thread runs at a time. When a thread reaches a
block, it stops there with the block's inputs in hand. Once all threads have stopped, the visitor may run the block on
their inputs as often as it likes and change it; then the threads take the outputs of the changed block and run to the
next. So later blocks see what earlier ones became, whatever the model does between its blocks, and only the
activations between two blocks are held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.architecture import matches
from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.calibration.sample_threads import SampleThread, intercept_blocks
from sottovoce.errors import MemoryLimitError
from sottovoce.system.machine import release_memory, resident_memory

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.samples import Sample


@dataclass(frozen=True)
class Block:
    """A block with the inputs that wait at it."""

    name: str
    root: nn.Module
    sample_threads: Sequence[SampleThread]

    @property
    def module(self) -> nn.Module:
        """The block as it is now; a visitor may have replaced it."""
        return self.root.get_submodule(self.name)

    def run(
        self, ends: type[Exception] | tuple[()] = (), sample_threads: Sequence[SampleThread] | None = None
    ) -> Iterator[Any]:
        """The block's output for one sample after another, computed as they are asked for.

        Args:
            ends: What a hook raises to end a sample's pass; its output is ``None`` then.
            sample_threads: Some of the sample_threads; by default all.

        An output may be read until the next is asked for: what a block gives as it was given it may lie on disk again
        then. The model must be one whose blocks can run more than once on the same inputs: no cache may grow.
        """
        for sample_thread in self.sample_threads if sample_threads is None else sample_threads:
            try:
                with sample_thread.computed(self.module) as output:
                    yield output
            except ends:
                yield None


def run_blocks(model: Model, samples: Sequence[Sample], blocks: Sequence[str], visit: Callable[[Block], None], *,
         activations: ActivationCache | None = None, leave: Callable[[str], None] | None = None,
         first: list[Any] | None = None,
         hold: Callable[[nn.Module], AbstractContextManager[None]] | None = None) -> tuple[str, ...]:  # fmt: skip
    """Visit the blocks in the order in which the samples reach them.

    Args:
        model: The model; a visitor changes it in place.
        samples: What runs through it, one at a time.
        blocks: Names of modules that do not lie in one another.
        visit: Called once for every block that a sample reaches.
        activations: Where the inputs that wait are held.
        leave: Called when a block's outputs are computed and it is not run again.
        first: Takes what the model gave for the first sample.
        hold: Around the computing of a block's outputs, for weights that need not be unpacked for every sample.

    Returns:
        The blocks that no sample reached.

    Raises:
        SourceError: The model does not run on a sample; names it.
    """
    held = activations or ActivationCache()
    sample_threads = [SampleThread(model, sample, held) for sample in samples]
    visited: list[str] = []
    for sample_thread in sample_threads[:1]:
        sample_thread.keeps_result = first is not None
    with intercept_blocks(model.module, blocks, visited):
        try:
            for sample_thread in sample_threads:
                sample_thread.advance()
                # Every thread frees into a place of its own, of which nothing goes back by itself.
                release_memory()
            if model.stream is not None:
                model.stream.release_pages()
            while waiting := [sample_thread for sample_thread in sample_threads if sample_thread.at is not None]:
                name = min((sample_thread.at for sample_thread in waiting if sample_thread.at), key=blocks.index)
                block = Block(
                    name, model.module, [sample_thread for sample_thread in waiting if sample_thread.at == name]
                )
                visit(block)
                visited.append(name)
                release_memory()  # of the work, before the pass that follows takes its own
                with hold(block.module) if hold is not None else nullcontext():
                    for sample_thread in block.sample_threads:
                        with sample_thread.computed(block.module) as output:
                            pass
                        sample_thread.advance(output)
                        if sample_thread.at is None:
                            release_memory()
                if leave is not None:
                    leave(name)
                release_memory()
            if first is not None:
                first.extend(sample_thread.result for sample_thread in sample_threads[:1])
        finally:
            for sample_thread in sample_threads:
                sample_thread.abandon()
            held.close()
    return tuple(name for name in blocks if name not in visited)


def blocks_of(model: Model, layers: Sequence[str]) -> list[str]:
    """The family's blocks that hold any of the layers, and the layers that lie in none, in the module's order."""
    found: dict[str, None] = {}
    wanted = set(layers)
    holding = {above for layer in wanted for above in _above(layer)}
    for name, child in model.module.named_modules():
        if name not in wanted and name not in holding:
            continue
        kind = type(child).__name__
        is_block = name in wanted or any(matches(name, kind, pattern) for pattern in model.architecture.layers.blocks)
        if is_block and not any(above in found for above in _above(name)):
            found[name] = None
    return list(found)


def _above(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def room_for_activations(model: Model, blocks: Sequence[str], memory_bytes: int | None) -> int | None:
    """Bytes that are left for activations when the process may take ``memory_bytes``; ``None`` for no limit.

    Beside what the process has now, the second moments of one block's inputs are needed, and what is computed from
    those of one layer.

    Raises:
        MemoryLimitError: Nothing is left; says what would be enough.
    """
    if memory_bytes is None:
        return None
    now = resident_memory() or model.size_bytes
    work = max((_moments(model.module, name) for name in blocks), default=0)
    if model.stream is not None:
        work += model.stream.largest_bytes
    room = memory_bytes - now - work
    if room < _LEAST_ROOM:
        needed = (now + work + _LEAST_ROOM) / 1e9
        raise MemoryLimitError(
            f"{memory_bytes / 1e9:.2f} GB are not enough: the loaded model takes {now / 1e9:.2f} GB and the work on "
            f"a block {work / 1e9:.2f} GB; allow at least {needed:.2f} GB"
        )
    return room


_LEAST_ROOM = 200_000_000
"""Bytes that running a block takes, and two samples' activations."""
_COPIES = 5
"""The second moments of one layer, their factor, and what is between, while a layer is rounded."""


def _moments(module: nn.Module, name: str) -> int:
    widths = [int(getattr(child, "in_features", 0)) for child in module.get_submodule(name).modules()]
    squares = {width: 4 * width * width for width in widths}
    return sum(squares.values()) + _COPIES * max(squares.values(), default=0)
