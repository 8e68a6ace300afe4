"""Availability of the kernels: numba compiles, PyTorch's threads can be shared, and its operators are not asked for."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os

import torch
from torch import Tensor

from sottovoce.errors import UsageError
from sottovoce.runtime.kernels.launch import parallel

VARIABLE = "SOTTOVOCE_KERNELS"
"""Environment variable: ``torch`` leaves everything to PyTorch's operators, ``numba`` fails where it cannot be used."""

_WORTH = 1 << 19
"""Number of weights below which a layer is dequantized by PyTorch: loading numba takes about 100 MB."""

_logger = logging.getLogger("sottovoce")


def takes(*tensors: Tensor) -> bool:
    """Return whether kernels take these tensors: bfloat16 on the CPU, no gradients recorded, and :func:`available`."""
    if any(tensor.dtype != torch.bfloat16 or tensor.device.type != "cpu" for tensor in tensors):
        return False
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return not recorded and available()


def makes(weights: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether kernels dequantize a weight: to bfloat16 or float32 on the CPU, half a million numbers."""
    on_cpu = device.type == "cpu" and dtype in (torch.bfloat16, torch.float32)
    return on_cpu and weights >= _WORTH and available()


def available() -> bool:
    """Return whether kernels can be compiled and run here; tried once.

    Raises:
        UsageError: ``SOTTOVOCE_KERNELS`` asks for what is unknown or does not work here.
    """
    return obstacle() == ""


def obstacle() -> str:
    """Return the reason why kernels are not :func:`available`; empty where they are.

    Raises:
        UsageError: As there.
    """
    choice = os.environ.get(VARIABLE, "")
    if choice not in ("", "numba", "torch"):
        raise UsageError(f"{VARIABLE}={choice}: no such kernels (known: numba, torch)")
    if choice == "torch":
        return f"{VARIABLE}=torch"
    reason = _obstacle()
    if reason and choice:
        raise UsageError(f"{VARIABLE}={choice}: {reason}; unset it")
    return reason


@functools.cache
def _obstacle() -> str:
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    try:
        parallel()
    except (OSError, AttributeError, TypeError):
        return "PyTorch's threads are not those of GNU's OpenMP here"
    try:
        right = _right()
    except Exception as error:  # numba raises a great many kinds, and PyTorch's operators do as well.
        _logger.warning("numba cannot compile here, so PyTorch's operators serve: %s", _first_line(error))
        return "numba cannot compile here"
    return "" if right else "what numba compiles is wrong here"


def _right() -> bool:
    """Return whether a small pass gives the right result."""
    from sottovoce.runtime.kernels import rows

    x = torch.tensor([[1.0, -2.0, 0.5, 127.0], [0.0, 0.0, 0.0, 0.0]], dtype=torch.bfloat16)
    quantized = rows.quantize(x)
    if quantized is None:
        return False
    values, scale = quantized
    return values.tolist() == [[129, 126, 128, 255], [128] * 4] and scale[0].item() == 1.0


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
