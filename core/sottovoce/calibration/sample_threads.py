"""Forward passes that stop at every block: each runs in a thread of its own, and only one thread runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sottovoce.calibration.activation_cache import ActivationCache
from sottovoce.system.machine import release_threads

if TYPE_CHECKING:
    from torch import nn

    from sottovoce.model import Model
    from sottovoce.samples import Sample


class _AbandonedError(BaseException):
    """The pass is over, and the thread ends with it."""


class SampleThread(threading.Thread):
    """The forward pass of one sample, which stops at every block."""

    def __init__(self, model: Model, sample: Sample, cache: ActivationCache) -> None:
        super().__init__(name=f"sample {sample.key}", daemon=True)
        self._model, self.sample, self._cache = model, sample, cache
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._inputs: Any = None
        self._output: Any = None
        self._error: BaseException | None = None
        self._ended = False
        self.at: str | None = None
        """Name of the block that the thread waits at."""
        self.result: Any = None
        """Output of the forward pass, when :attr:`keeps_result` is set."""
        self.keeps_result = False

    def advance(self, output: Any = None) -> None:
        """Continue with the block's output to the next block or to the end."""
        self._output, self.at = output, None
        if self._inputs is not None:
            self._cache.release(self._inputs)
            self._inputs = None
        if not self.is_alive():
            self.start()
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error
        if self.at is not None:
            self._cache.hold(self._inputs, output)

    @contextmanager
    def inputs(self) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Have the inputs that wait in memory: positional arguments, and those with names."""
        arguments, named = self._cache.borrow(self._inputs)
        try:
            yield arguments, named
        finally:
            self._cache.give_back(self._inputs)

    @contextmanager
    def computed(self, module: nn.Module) -> Iterator[Any]:
        """Compute the block's output for the inputs that wait; these are readable meanwhile."""
        from torch import inference_mode

        with self.inputs() as (arguments, named):
            with inference_mode():
                # Outside of a sample thread a block is not intercepted.
                output = module(*arguments, **named)
            yield output

    def stop_at(self, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Wait for the block's output; called in this thread, when its pass reaches the block."""
        self.at, self._inputs = name, (arguments, named)
        release_threads()
        self._stopped.release()
        del arguments, named
        self._go.acquire()
        if self._ended:
            raise _AbandonedError
        output, self._output = self._output, None
        return output

    def abandon(self) -> None:
        """End the thread where it waits."""
        self._ended = True
        if self.is_alive():
            self._go.release()
            self.join()

    def run(self) -> None:
        """Run the forward pass."""
        from torch import inference_mode

        self._go.acquire()
        try:
            if not self._ended:
                with inference_mode():
                    result = self._model.architecture.runner.forward(self._model, self.sample)
                    self.result = result if self.keeps_result else None
        except _AbandonedError:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self.at = None
            self._stopped.release()


_ORIGINAL = "_sottovoce_original_forward"


class intercept_blocks:
    """Stops every sample thread that calls one of the blocks which are not visited yet."""

    def __init__(self, root: nn.Module, names: Sequence[str], visited: Sequence[str]) -> None:
        self._root, self._visited = root, visited
        self._modules = {name: root.get_submodule(name) for name in names}
        # A library may have replaced a module's forward.
        self._forwards = {name: vars(module).get("forward") for name, module in self._modules.items()}

    def __enter__(self) -> None:
        for name, module in self._modules.items():
            vars(module)[_ORIGINAL] = module.forward
            vars(module)["forward"] = self._intercepted(name, module)

    def __exit__(self, *_: object) -> None:
        for name, module in self._modules.items():
            vars(module).pop(_ORIGINAL)
            if (forward := self._forwards[name]) is None:
                vars(module).pop("forward")
            else:
                vars(module)["forward"] = forward

    def _intercepted(self, name: str, module: nn.Module) -> Callable[..., Any]:
        def forward(*arguments: Any, **named: Any) -> Any:
            thread = threading.current_thread()
            if isinstance(thread, SampleThread) and name not in self._visited:
                return thread.stop_at(name, arguments, named)
            current = self._root.get_submodule(name)
            return (current if current is not module else vars(module)[_ORIGINAL])(*arguments, **named)

        return forward
