"""A default type of tensors for one thread.

PyTorch has one for the whole process, and transformers changes it while it builds a model of another type: what other
threads compute meanwhile, with any model, would change with it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode

from sottovoce.system.process_state import exclusive

# Kept as functions, not by name: while transformers builds a model, it has others under some of these names.
_OF_THE_DEFAULT_TYPE = frozenset(
    {torch.empty, torch.empty_strided, torch.empty_permuted, torch.zeros, torch.ones, torch.eye}
    | {torch.rand, torch.randn, torch.linspace, torch.logspace, torch.fft.fftfreq, torch.fft.rfftfreq}
    | {torch.bartlett_window, torch.blackman_window, torch.hamming_window, torch.hann_window, torch.kaiser_window}
)
"""Functions that make tensors of the default type unless a type is given."""
_OF_THE_VALUES_TYPE = frozenset(
    {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor}
    | {torch.full, torch.arange, torch.range, torch.normal}
)
"""Functions that make tensors of the default type where fractions are given."""
_OF_A_TYPE = frozenset(
    {Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.to, Tensor.type, Tensor.type_as}
    | {Tensor.dequantize, torch.dequantize}
)
"""Functions that state the type by their name or by another tensor."""


class _ThreadState(threading.local):
    """Default type of the current thread, where it has one."""

    mode: _DefaultType | None = None


_thread_state = _ThreadState()


@contextmanager
def thread_default_type() -> Iterator[None]:
    """Confine ``torch.set_default_dtype``, called by this thread or by libraries in it, to this thread."""
    _install_casting()
    thread, usual = threading.get_ident(), (torch.set_default_dtype, torch.get_default_dtype)
    mode = _DefaultType(torch.get_default_dtype())

    def set_default_dtype(dtype: torch.dtype) -> None:
        if threading.get_ident() != thread:
            usual[0](dtype)
        else:
            mode.dtype = dtype

    def get_default_dtype() -> torch.dtype:
        return usual[1]() if threading.get_ident() != thread else mode.dtype

    with exclusive(), mode:
        before, _thread_state.mode = _thread_state.mode, mode
        torch.set_default_dtype, torch.get_default_dtype = set_default_dtype, get_default_dtype
        try:
            yield
        finally:
            torch.set_default_dtype, torch.get_default_dtype = usual
            _thread_state.mode = before


@functools.cache
def _install_casting() -> None:
    """Have PyTorch ask about new parameters and buffers; for good, since another thread may be building a module."""
    modules.register_module_parameter_registration_hook(_cast_parameter)  # type: ignore[arg-type]  # it may return another
    modules.register_module_buffer_registration_hook(_cast_buffer)  # type: ignore[arg-type]


def _cast_parameter(_: nn.Module, __: str, parameter: nn.Parameter) -> nn.Parameter | None:
    if _thread_state.mode is None or (data := _thread_state.mode.cast(parameter.data)) is None:
        return None
    return nn.Parameter(data, requires_grad=parameter.requires_grad)


def _cast_buffer(_: nn.Module, __: str, buffer: Tensor) -> Tensor | None:
    return None if _thread_state.mode is None else _thread_state.mode.cast(buffer)


class _DefaultType(TorchFunctionMode):
    """Mode that gives new tensors without a type the thread's default, as PyTorch gives them the process's.

    ``torch.Tensor(3)`` is the one way of making a tensor that a mode does not see. So the mode remembers tensors that
    were given the process's type by name, and those computed from them: other tensors take the thread's type when a
    module registers them.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = self._process = dtype
        self._typed: dict[int, Tensor] = {}
        """Tensors that were given the process's type by name; kept, or new ones could take the memory of old ones."""

    def cast(self, tensor: Tensor) -> Tensor | None:
        """Return a tensor in the thread's type; ``None`` where it has it already."""
        if self.dtype is self._process or tensor.dtype is not self._process or self._is_typed(tensor):
            return None
        return tensor.to(self.dtype)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, with results of the thread's type where PyTorch would take the process's."""
        given = dict(kwargs or {})
        if self.dtype is self._process or "out" in given:
            return func(*args, **given)
        values = list(_flat((*args, *given.values())))
        tensors = [value for value in values if isinstance(value, Tensor)]
        result = self._call(func, args, given, values, tensors)
        if isinstance(result, Tensor) and result.dtype is self._process:
            sources = [tensor for tensor in tensors if tensor.dtype is self._process]
            if not sources or any(map(self._is_typed, sources)):
                self._typed[_place(result)] = result
        return result

    def _call(
        self, func: Any, args: tuple[Any, ...], given: dict[str, Any], values: list[Any], tensors: list[Tensor]
    ) -> Any:
        if given.get("dtype") is not None or any(isinstance(value, torch.dtype) for value in values):
            return func(*args, **given)
        if func in _OF_THE_DEFAULT_TYPE:
            return func(*args, **{**given, "dtype": self.dtype})
        result = func(*args, **given)
        if not isinstance(result, Tensor) or result.dtype is not self._process or func in _OF_A_TYPE:
            return result
        if func in _OF_THE_VALUES_TYPE:
            is_plain = not any(hasattr(value, "dtype") for value in values)
            return func(*args, **{**given, "dtype": self.dtype}) if is_plain else result
        if not tensors or any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors):
            return result
        if func in (torch.where, Tensor.where):
            typed = (torch.tensor(value, dtype=self.dtype) if isinstance(value, float) else value for value in args)
            return func(*typed, **given)
        # Whole numbers become the default type before anything is computed.
        return func(*map(self._whole, args), **{name: self._whole(value) for name, value in given.items()})

    def _whole(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, Tensor) else value

    def _is_typed(self, tensor: Tensor) -> bool:
        return _place(tensor) in self._typed


def _place(tensor: Tensor) -> int:
    """Return what identifies the memory of a tensor, the same for all views of it."""
    place: int = tensor.untyped_storage()._cdata
    return place


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
