"""Launcher of compiled functions, in the threads of PyTorch's own OpenMP runtime.

numba's own threads would share the cores with PyTorch's, which go on spinning for a while after each operator. GNU's
runtime, which PyTorch brings on Linux, lets anyone run a function in the very same threads (``GOMP_parallel``, what
compilers call for a parallel region).
"""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_compiling = threading.RLock()
_GRAIN = 1 << 15
"""Number of elements below which one thread is faster, as in PyTorch."""


class Kernel:
    """A function that is compiled when it is first called.

    It takes the address of its arguments, 64 bits each, and runs once in every thread; each finds its part by
    :func:`sottovoce.runtime.kernels.memory.share`.
    """

    def __init__(self, body: Callable[[Any], None], fastmath: frozenset[str] = frozenset()) -> None:
        """Take the function that numba compiles, and what LLVM may change in its arithmetic."""
        self._body, self._fastmath = body, fastmath
        functools.update_wrapper(self, body)

    def __call__(self, elements: int, *given: Tensor | int | float | None) -> list[int]:
        """Run it.

        Args:
            elements: Number of elements; few are left to the calling thread.
            *given: Arguments: tensors on the CPU by their addresses, numbers, zero for ``None``.

        Returns:
            The values that it left in the place of ``given``.
        """
        words = (ctypes.c_int64 * len(given))(*map(_word, given))
        threads = torch.get_num_threads() if elements > _GRAIN else 1
        parallel()(self._compiled.address, ctypes.addressof(words), threads, 0)
        return list(words)

    @property
    def _compiled(self) -> Any:
        with _compiling:
            # One for good: another thread may be running it when this one asks.
            return self._function

    @functools.cached_property
    def _function(self) -> Any:
        import numba

        options: dict[str, Any] = {"fastmath": set(self._fastmath), "error_model": "numpy"}
        try:
            return numba.cfunc("void(int64)", cache=True, **options)(self._body)
        except (RuntimeError, OSError):  # No folder can be written to, or it is full.
            return numba.cfunc("void(int64)", **options)(self._body)


@functools.cache
def parallel() -> Any:
    """Return ``GOMP_parallel(function, data, threads, flags)`` of the runtime that PyTorch loaded."""
    function = ctypes.CDLL(None).GOMP_parallel
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function


def _word(given: Tensor | int | float | None) -> int:
    if isinstance(given, Tensor):
        return given.data_ptr()
    if isinstance(given, float):
        word: int = struct.unpack("q", struct.pack("d", given))[0]
        return word
    return given or 0
