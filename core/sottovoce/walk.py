"""Walking a model block by block: every sample waits at a block until the block is done with, then all go on.

Each sample's forward pass runs in a thread of its own (a lane), and only one thread runs at a time. When a lane
reaches a block, it stops there with the block's inputs in hand. Once all lanes have stopped, the visitor may run the
block on their inputs as often as it likes and change it; then the lanes take the outputs of the changed block and run
to the next. So later blocks see what earlier ones became, whatever the model does between its blocks, and only the
activations between two blocks are held.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.activations import Activations
from sottovoce.architecture import matches
from sottovoce.errors import MemoryLimitError, SamplesError
from sottovoce.machine import release_memory, resident_memory

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.samples import Sample


@dataclass(frozen=True)
class Block:
    """A block with the inputs that wait at it."""

    name: str
    root: nn.Module
    lanes: Sequence[_Lane]

    @property
    def module(self) -> nn.Module:
        """The block as it is now; a visitor may have replaced it."""
        return self.root.get_submodule(self.name)

    def run(self, ends: type[Exception] | tuple[()] = ()) -> Iterator[Any]:
        """The block's output for one sample after another, computed as they are asked for.

        Args:
            ends: What a hook raises to end a sample's pass; its output is ``None`` then.

        An output may be read until the next is asked for: what a block gives as it was given it may lie on disk again
        then. The model must be one whose blocks can run more than once on the same inputs: no cache may grow.
        """
        for lane in self.lanes:
            try:
                with lane.computed(self.module) as output:
                    yield output
            except ends:
                yield None


def walk(model: Model, samples: Sequence[Sample], blocks: Sequence[str], visit: Callable[[Block], None], *,
         activations: Activations | None = None) -> tuple[str, ...]:  # fmt: skip
    """Visit the blocks in the order in which the samples reach them.

    Args:
        model: The model; a visitor changes it in place.
        samples: What runs through it, one at a time.
        blocks: Names of modules that do not lie in one another.
        visit: Called once for every block that a sample reaches.
        activations: Where the inputs that wait are held.

    Returns:
        The blocks that no sample reached.

    Raises:
        SamplesError: A sample cannot be run; names it.
    """
    held = activations or Activations()
    lanes = [_Lane(model, sample, held) for sample in samples]
    visited: list[str] = []
    with _doors(model.module, blocks, visited):
        try:
            for lane in lanes:
                lane.advance()
                # Every thread frees into a place of its own, of which nothing goes back by itself.
                release_memory()
            while waiting := [lane for lane in lanes if lane.at is not None]:
                name = min((lane.at for lane in waiting if lane.at), key=blocks.index)
                block = Block(name, model.module, [lane for lane in waiting if lane.at == name])
                visit(block)
                visited.append(name)
                for lane in block.lanes:
                    with lane.computed(block.module) as output:
                        pass
                    lane.advance(output)
                release_memory()
        finally:
            for lane in lanes:
                lane.abandon()
            held.close()
    return tuple(name for name in blocks if name not in visited)


def blocks_of(model: Model, layers: Sequence[str]) -> list[str]:
    """The family's blocks that hold any of the layers, and the layers that lie in none, in the module's order."""
    found: dict[str, None] = {}
    wanted = set(layers)
    for name, child in model.module.named_modules():
        inside = any(name.startswith(f"{block}.") for block in found)
        kind = type(child).__name__
        is_block = any(matches(name, kind, pattern) for pattern in model.architecture.blocks)
        holds = any(layer.startswith(f"{name}.") for layer in layers)
        if not inside and (name in wanted or (is_block and holds)):
            found[name] = None
    return list(found)


def room_for_activations(model: Model, blocks: Sequence[str], memory_bytes: int | None) -> int | None:
    """Bytes that are left for activations when the process may take ``memory_bytes``; ``None`` for no limit.

    Beside what the process has now, the second moments of one block's inputs are needed, and what is computed from
    those of one layer.

    Raises:
        MemoryLimitError: Nothing is left; says what would be enough.
    """
    if memory_bytes is None:
        return None
    now, work = resident_memory() or model.size_bytes, max((_moments(model.module, name) for name in blocks), default=0)
    room = memory_bytes - now - work
    if room < _LEAST_ROOM:
        needed = (now + work + _LEAST_ROOM) / 1e9
        raise MemoryLimitError(
            f"{memory_bytes / 1e9:.2f} GB are not enough: the loaded model takes {now / 1e9:.2f} GB and the second "
            f"moments of a block {work / 1e9:.2f} GB; allow at least {needed:.2f} GB"
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


class _Abandoned(BaseException):
    """The walk ended; a lane's thread ends with it."""


class _Lane(threading.Thread):
    """The forward pass of one sample, which stops at every block."""

    def __init__(self, model: Model, sample: Sample, held: Activations) -> None:
        super().__init__(name=f"sample {sample.key}", daemon=True)
        self._model, self._sample, self._held = model, sample, held
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._inputs: Any = None
        self._output: Any = None
        self._error: BaseException | None = None
        self._ended = False
        self.at: str | None = None

    def advance(self, output: Any = None) -> None:
        """Go on with the block's output to the next block or to the end."""
        self._output, self.at = output, None
        if self._inputs is not None:
            self._held.release(self._inputs)
            self._inputs = None
        if not self.is_alive():
            self.start()
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            reason = " ".join(str(self._error).split())[:200]
            if isinstance(self._error, SamplesError | MemoryError):
                raise self._error
            kind = type(self._error).__name__
            raise SamplesError(f"the sample {self._sample.key!r} cannot be run: {kind}: {reason}") from self._error
        if self.at is not None:
            self._held.hold(self._inputs, output)

    @contextmanager
    def computed(self, module: nn.Module) -> Iterator[Any]:
        """What the block gives for the inputs that wait; these are readable as long."""
        from torch import inference_mode

        arguments, named = self._held.borrow(self._inputs)
        try:
            with inference_mode():
                # Outside of a lane's thread the door is open.
                output = module(*arguments, **named)
            yield output
        finally:
            self._held.give_back(self._inputs)

    def stop_at(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Called in the lane's own thread: wait here for the block's output."""
        self.at, self._inputs = name, (arguments, named)
        self._stopped.release()
        del arguments, named
        self._go.acquire()
        if self._ended:
            raise _Abandoned
        output, self._output = self._output, None
        return output

    def abandon(self) -> None:
        """End the thread where it stands."""
        self._ended = True
        if self.is_alive():
            self._go.release()
            self.join()

    def run(self) -> None:
        """The thread."""
        from torch import inference_mode

        self._go.acquire()
        try:
            if not self._ended:
                with inference_mode():
                    self._model.architecture.forward(self._model, self._sample)
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.at = None
            self._stopped.release()


_DOOR = "_sottovoce_behind_the_door"


class _doors:
    """Puts a door before every block while the walk lasts: a lane that comes to it stops there."""

    def __init__(self, root: nn.Module, names: Sequence[str], visited: Sequence[str]) -> None:
        self._root, self._visited = root, visited
        self._modules = {name: root.get_submodule(name) for name in names}
        # A library may have put a forward of its own on a module.
        self._own = {name: vars(module).get("forward") for name, module in self._modules.items()}

    def __enter__(self) -> None:
        for name, module in self._modules.items():
            vars(module)[_DOOR] = module.forward
            vars(module)["forward"] = self._door(name, module)

    def __exit__(self, *_: object) -> None:
        for name, module in self._modules.items():
            vars(module).pop(_DOOR)
            if (own := self._own[name]) is None:
                vars(module).pop("forward")
            else:
                vars(module)["forward"] = own

    def _door(self, name: str, module: nn.Module) -> Callable[..., Any]:
        def forward(*arguments: Any, **named: Any) -> Any:
            lane = threading.current_thread()
            if isinstance(lane, _Lane) and name not in self._visited:
                return lane.stop_at(name, arguments, named)
            current = self._root.get_submodule(name)
            return (current if current is not module else vars(module)[_DOOR])(*arguments, **named)

        return forward
