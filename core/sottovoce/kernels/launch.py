"""How compiled functions run: by the threads of PyTorch's own OpenMP runtime.

numba's own threads would share the cores with PyTorch's, which go on spinning for a while after each operator. GNU's
runtime, which PyTorch brings on Linux, lets anyone run a function in the very same threads (``GOMP_parallel``, what
compilers call for a parallel region).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
import struct
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sottovoce.errors import UsageError

VARIABLE = "SOTTOVOCE_KERNELS"
"""Environment variable: ``torch`` leaves everything to PyTorch's operators, ``numba`` fails where it cannot be used."""

_GRAIN = 1 << 15
"""Elements below which one thread is the quicker, as in PyTorch."""

_WORTH = 1 << 19
"""Weights of a layer below which numba is not loaded for them: it takes 100 MB, more than a small model."""

_logger = logging.getLogger("sottovoce")


class Kernel:
    """A function that is compiled when it is first called.

    It takes the address of its arguments, 64 bits each, and runs once in every thread; each finds its part by
    :func:`sottovoce.kernels.memory.share`.
    """

    def __init__(self, body: Callable[[Any], None], fastmath: frozenset[str] = frozenset()) -> None:
        """``body`` is compiled by numba; ``fastmath`` is what LLVM may change in its arithmetic."""
        self._body, self._fastmath = body, fastmath
        functools.update_wrapper(self, body)

    def __call__(self, elements: int, *given: Tensor | int | float | None) -> list[int]:
        """Run it.

        Args:
            elements: How many are worked on; few are left to the calling thread.
            *given: What it takes: tensors on the CPU by their addresses, numbers, zero for ``None``.

        Returns:
            What it left in the place of ``given``.
        """
        words = (ctypes.c_int64 * len(given))(*map(_word, given))
        threads = torch.get_num_threads() if elements > _GRAIN else 1
        _parallel()(self._compiled.address, ctypes.addressof(words), threads, 0)
        return list(words)

    @functools.cached_property
    def _compiled(self) -> Any:
        import numba

        options: dict[str, Any] = {"fastmath": set(self._fastmath), "error_model": "numpy"}
        try:
            return numba.cfunc("void(int64)", cache=True, **options)(self._body)
        except RuntimeError:  # No folder can be written to.
            return numba.cfunc("void(int64)", **options)(self._body)


def takes(*tensors: Tensor) -> bool:
    """Whether kernels serve these tensors: bfloat16 on the CPU, no gradients recorded, and :func:`available`."""
    if any(tensor.dtype != torch.bfloat16 or tensor.device.type != "cpu" for tensor in tensors):
        return False
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not recorded and available()


def makes(weights: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether kernels make the weights of a layer float: on the CPU, bfloat16 or float32, half a million at least."""
    on_cpu = device.type == "cpu" and dtype in (torch.bfloat16, torch.float32)
    return on_cpu and weights >= _WORTH and available()


def available() -> bool:
    """Whether kernels can be compiled and run here: tried once.

    Raises:
        UsageError: ``SOTTOVOCE_KERNELS`` asks for what is unknown or does not work here.
    """
    return obstacle() == ""


def obstacle() -> str:
    """Why :func:`available` says no; empty where it says yes.

    Raises:
        UsageError: As there.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "numba", "torch"):
        raise UsageError(f"{VARIABLE}={asked}: no such kernels (known: numba, torch)")
    if asked == "torch":
        return f"{VARIABLE}=torch"
    reason = _obstacle()
    if reason and asked:
        raise UsageError(f"{VARIABLE}={asked}: {reason}; unset it")
    return reason


@functools.cache
def _obstacle() -> str:
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    try:
        _parallel()
    except (OSError, AttributeError, TypeError):
        return "PyTorch's threads are not those of GNU's OpenMP here"
    try:
        right = _right()
    except Exception as error:  # numba raises a great many kinds, and PyTorch's operators do as well.
        _logger.warning("numba cannot compile here, so PyTorch's operators serve: %s", _first_line(error))
        return "numba cannot compile here"
    return "" if right else "what numba compiles is wrong here"


def _right() -> bool:
    """Whether a small pass gives what it must."""
    from sottovoce.kernels import rows

    x = torch.tensor([[1.0, -2.0, 0.5, 127.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.bfloat16)
    found = rows.quantize(x)
    return found is not None and found[0].tolist() == [[129, 126, 128, 255], [128] * 4] and found[1][0].item() == 1.0


@functools.cache
def _parallel() -> Any:
    """``GOMP_parallel(function, data, threads, flags)`` of the runtime that PyTorch loaded."""
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


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
