"""Engines of int8 products: oneDNN, PyTorch's own dynamic quantization, cuBLASLt on GPUs, or a float product."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable

import torch

from sottovoce.errors import UsageError
from sottovoce.runtime.backends import instructions, int_mm, onednn
from sottovoce.runtime.backends.int8_kernels import linear_dynamic
from sottovoce.system.environment import ENGINE_VARIABLE as ENGINE_VARIABLE

_logger = logging.getLogger("sottovoce")
_warn_lock = threading.Lock()
_warned: set[str] = set()


def engine() -> str:
    """Choose the engine of int8 products for this CPU and this build of PyTorch.

    ``onednn`` is the fastest and needs AVX512-VNNI, AVX-VNNI or AMX. ``linear_dynamic`` is PyTorch's own dynamic
    quantization, which takes the range of the input itself also where one was calibrated. ``float`` dequantizes for
    every product and quantizes no input. A small product shows once whether an engine works.

    Returns:
        ``onednn``, ``linear_dynamic`` or ``float``.

    Raises:
        UsageError: ``SOTTOVOCE_INT8_ENGINE`` names an engine that is unknown or does not work here.
    """
    choice = os.environ.get(ENGINE_VARIABLE, "")
    if choice:
        if choice not in _ENGINES:
            raise UsageError(f"{ENGINE_VARIABLE}={choice}: no such engine (known: {', '.join(_ENGINES)})")
        if not _ENGINES[choice]():
            raise UsageError(f"{ENGINE_VARIABLE}={choice}: this CPU or this PyTorch cannot run it; unset it")
        return choice
    name = next(name for name, works in _ENGINES.items() if works())
    if name != "onednn":
        reason = (
            "PyTorch has no oneDNN kernel for them here" if instructions.vnni() else "the CPU has no VNNI instructions"
        )
        _warn_once(name, reason)
    return name


def gpu_engine(device: torch.device) -> str:
    """Choose the engine of int8 products for a GPU, by trying a small product once: ``int_mm`` or ``float``."""
    if os.environ.get(ENGINE_VARIABLE) == "float":
        return "float"
    if int_mm.supported(device):
        return "int_mm"
    _warn_once("float", f"{device} does not multiply integers by PyTorch's kernel")
    return "float"


def gpu_engines() -> dict[str, str]:
    """Return :func:`gpu_engine` of every GPU that PyTorch has, by its number and name."""
    engines = {}
    for number in range(torch.cuda.device_count()):
        name = f"cuda:{number} {torch.cuda.get_device_name(number)}"
        engines[name] = gpu_engine(torch.device("cuda", number))
    return engines


def _warn_once(name: str, reason: str) -> None:
    with _warn_lock:
        if reason in _warned:
            return
        _warned.add(reason)
    _logger.warning("int8 layers run by %r, slower than they could: %s", name, reason)


@functools.cache
def _linear_dynamic_works() -> bool:
    weight = torch.arange(24 * 72).remainder(255).sub(127).view(24, 72)
    weight[0] = 127
    x = torch.arange(3 * 72).remainder(256).view(3, 72).div(128)
    x[0] = 255 / 128
    scale = torch.linspace(0.5, 2.0, 24)
    expected = (x.double() @ weight.t().double()).float() * scale
    try:
        actual = linear_dynamic(weight.to(torch.int8), scale, None)(x)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return torch.allclose(actual, expected, rtol=2e-2, atol=float(expected.abs().max()) * 1e-2)


_ENGINES: dict[str, Callable[[], bool]] = {
    "onednn": onednn.supported,
    "linear_dynamic": _linear_dynamic_works,
    "float": lambda: True,
}
