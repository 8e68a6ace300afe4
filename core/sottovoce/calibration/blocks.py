"""Running a model block by block: every sample waits at a block until its step is done, then all continue.

Each sample's forward pass runs in a thread of its own, and only one thread runs at a time. When a thread reaches a
block, it stops there with the block's inputs. Once all threads have stopped, the block may be run on their inputs any
number of times, and changed; then the threads take the outputs of the changed block and run to the next one. So later
blocks see what earlier ones became, whatever the model does between its blocks, and only the activations between two
blocks are held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.calibration.divided import next_block
from sottovoce.calibration.sample_threads import SampleThread, intercept_blocks
from sottovoce.errors import MemoryLimitError
from sottovoce.recipe.pattern import matches
from sottovoce.report.number_format import size
from sottovoce.system.machine import release_memory, resident_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.calibration.kept_outputs import KeptOutputs
    from sottovoce.model import Model
    from sottovoce.samples import Sample


class StopPassError(Exception):
    """Raised by a hook to end a sample's pass through a block, once all that it observes has run."""


@dataclass(frozen=True)
class Block:
    """A block, and the sample threads that wait at it."""

    name: str
    root: nn.Module
    sample_threads: Sequence[SampleThread]
    original_outputs: Mapping[str, Tensor] = field(default_factory=dict)
    """By the key of a sample, the hidden states that the block gives in the model before any change, where a step asked
    for them."""
    original_layer_outputs: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """The same of layers within the block, by the layer's name, where a step named them."""
    outputs_before: KeptOutputs | None = None
    """Outputs of the block before the steps changed it, where a step asked for them."""
    all_keys: tuple[str, ...] | None = None
    """Keys of the samples that wait at it in all processes, in the order of the samples, if the samples are divided
    among processes; a process may have none of them, and takes part in every exchange."""

    @property
    def is_divided(self) -> bool:
        """True if each process has a part of the samples, so that sums are not finished before they are exchanged."""
        return self.all_keys is not None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all samples that wait at the block, whichever process has them."""
        return tuple(thread.sample.key for thread in self.sample_threads) if self.all_keys is None else self.all_keys

    @property
    def is_reached(self) -> bool:
        """True if a sample waits at the block, in any process."""
        return bool(self.sample_threads if self.all_keys is None else self.all_keys)

    @property
    def module(self) -> nn.Module:
        """Current module of the block; a step may have replaced it."""
        return self.root.get_submodule(self.name)

    def run(self, sample_threads: Sequence[SampleThread] | None = None) -> Iterator[Any]:
        """Yield the block's output for one sample after another, computed as they are asked for.

        If a hook raises :class:`StopPassError`, the sample's output is ``None``.

        An output may be read until the next is asked for: a block may give back its input, which can be on disk again
        then. The model must be one whose blocks can run more than once on the same inputs: no cache may grow.

        Args:
            sample_threads: The threads to run, a subset of the block's; by default all.
        """
        for sample_thread in self.sample_threads if sample_threads is None else sample_threads:
            try:
                with sample_thread.computed(self.module) as output:
                    yield output
            except StopPassError:
                yield None


@dataclass(frozen=True)
class BlockPass:
    """Result of one pass through the blocks."""

    unreached: tuple[str, ...]
    """Blocks that no sample reached."""
    first_output: Any = None
    """Output of the model for the first sample, where it was asked for."""


def run_blocks(
    model: Model,
    samples: Sequence[Sample],
    blocks: Sequence[str],
    process: Callable[[Block], None],
    *,
    cache: ActivationCache | None = None,
    offload: Callable[[str], None] | None = None,
    keeps_first_output: bool = False,
    runs_original: bool = False,
    original_layers: Collection[str] = (),
    hold_weights: Callable[[nn.Module], AbstractContextManager[None]] | None = None,
    is_divided: bool = False,
) -> BlockPass:
    """Process the blocks in the order in which the samples reach them.

    Args:
        model: The model; ``process`` changes it in place.
        samples: Samples that run through it, one at a time.
        blocks: Names of modules, none within another.
        process: Called once for every block that a sample reaches.
        cache: Holder of the inputs that wait.
        offload: Called when a block's outputs are computed and it is not run again.
        keeps_first_output: If true, the result has the model's output for the first sample.
        runs_original: If true, the samples run through the model before its changes as well, one block ahead, and every
            block has its outputs there. The model must be in memory.
        original_layers: Names of layers within the blocks whose outputs are wanted there too.
        hold_weights: Context in which a block's outputs are computed, for weights that need not be unpacked for every
            sample.
        is_divided: If true, the samples are this process's share (:func:`~sottovoce.system.distributed.share`); every
            process visits the same blocks in the same order.

    Raises:
        SourceError: The model does not run on a sample; names it.
    """
    cache = cache or ActivationCache()
    threads = [SampleThread(model, sample, cache) for sample in samples]
    originals = [SampleThread(model, sample, cache) for sample in samples] if runs_original else []
    visited: list[str] = []
    order = {name: place for place, name in enumerate(blocks)}
    for thread in threads[:1]:
        thread.keeps_result = keeps_first_output
    with intercept_blocks(model.module, blocks, visited):
        try:
            for thread in (*threads, *originals):
                thread.advance()
                # Every thread's allocator keeps freed memory, of which nothing goes back by itself.
                release_memory()
            if model.stream is not None:
                model.stream.release_pages()
            while (upcoming := next_block(threads, order, is_divided)) is not None:
                name = upcoming.name
                originals_here = _advance_originals(model.module, name, originals, original_layers)
                at_block = [thread for thread in threads if thread.at == name]
                all_keys = upcoming.keys if is_divided else None
                block = Block(name, model.module, at_block, *originals_here, all_keys=all_keys)
                process(block)
                visited.append(name)
                release_memory()  # of the step, before computing the outputs takes its own
                with hold_weights(block.module) if hold_weights is not None else nullcontext():
                    _advance(block)
                if offload is not None:
                    offload(name)
                release_memory()
            first_output = threads[0].result if keeps_first_output and threads else None
        finally:
            for thread in (*threads, *originals):
                thread.abandon()
            cache.close()
    return BlockPass(tuple(name for name in blocks if name not in visited), first_output)


def _advance_originals(
    root: nn.Module, name: str, threads: Sequence[SampleThread], layers: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Let the threads of the unchanged model pass a block that is not changed yet.

    Returns:
        The block's hidden states by the samples' keys, and the same of those of ``layers`` that are within it.
    """
    outputs: dict[str, Tensor] = {}
    of_layers: dict[str, dict[str, Tensor]] = {layer: {} for layer in layers if f"{layer}.".startswith(f"{name}.")}
    module = root.get_submodule(name)
    for thread in [thread for thread in threads if thread.at == name]:
        with ExitStack() as stack:
            for layer, kept in of_layers.items():
                hook = _keeper(kept, thread.sample.key)
                stack.callback(root.get_submodule(layer).register_forward_hook(hook).remove)
            output = stack.enter_context(thread.computed(module))
            if (states := hidden_states(output)) is not None:
                # A copy: the model may write to what it passes on.
                outputs[thread.sample.key] = states.clone()
        thread.advance(output)
    return outputs, of_layers


def _keeper(kept: dict[str, Tensor], key: str) -> Callable[[nn.Module, Any, Any], None]:
    """Return a hook that keeps the output of a layer under a key."""

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if (states := hidden_states(output)) is not None:
            kept[key] = states.clone()

    return keep


def hidden_states(output: Any) -> Tensor | None:
    """Return the hidden states among the outputs of a block: the tensor itself, or the first of several outputs."""
    from torch import Tensor

    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def _advance(block: Block) -> None:
    """Let the threads that wait at a block take its outputs and run to the next."""
    for thread in block.sample_threads:
        with thread.computed(block.module) as output:
            pass
        thread.advance(output)
        if thread.at is None:
            release_memory()


def blocks_of(model: Model, layers: Sequence[str]) -> list[str]:
    """Return the family's blocks that contain any of the layers, and the layers outside of blocks, in module order."""
    blocks: dict[str, None] = {}
    names = set(layers)
    parents = {parent for layer in names for parent in parent_names(layer)}
    for name, child in model.module.named_modules():
        if name not in names and name not in parents:
            continue
        kind = type(child).__name__
        is_block = name in names or any(matches(name, kind, pattern) for pattern in model.architecture.layers.blocks)
        if is_block and not any(parent in blocks for parent in parent_names(name)):
            blocks[name] = None
    return list(blocks)


def parent_names(name: str) -> Iterator[str]:
    """Yield the names of the modules that hold the module ``name``, from the inside out; not the root's."""
    while name := name.rpartition(".")[0]:
        yield name


def room_for_activations(model: Model, blocks: Sequence[str], memory_bytes: int | None) -> int | None:
    """Return the bytes left for activations when the process may take ``memory_bytes``; ``None`` for no limit.

    Apart from the memory of the process now, the second moments of one block's inputs are needed, and the matrices that
    are computed from those of one layer.

    Raises:
        MemoryLimitError: Too little is left; says how much would be enough.
    """
    if memory_bytes is None:
        return None
    now = resident_memory() or model.size_bytes
    work = max((_moments(model.module, name) for name in blocks), default=0)
    if model.stream is not None:
        work += model.stream.largest_bytes
    room = memory_bytes - now - work
    if room < _LEAST_ROOM:
        # Rounded up to what is printed.
        needed = -(-(now + work + _LEAST_ROOM) // _PRINTED) * _PRINTED
        raise MemoryLimitError(
            f"{size(memory_bytes)} are not enough: the process takes {size(now)} with the loaded model, and the work "
            f"on a block {size(work)}; allow at least {size(needed)}"
        )
    return room


_PRINTED = 100_000_000
_LEAST_ROOM = 200_000_000
"""Bytes that running a block takes, with the activations of two samples."""
_COPIES = 5
"""Float32 matrices of the size of one layer's second moments that quantizing it takes: their mean, its factor and more;
the sums themselves are float64."""


def _moments(module: nn.Module, name: str) -> int:
    widths = [int(getattr(child, "in_features", 0)) for child in module.get_submodule(name).modules()]
    squares = {width: 4 * width * width for width in widths}
    return 2 * sum(squares.values()) + _COPIES * max(squares.values(), default=0)
