"""Checks of the device that a model is to run on."""

from __future__ import annotations

from sottovoce.errors import UsageError


def check_device(name: str) -> None:
    """Refuse a device that PyTorch does not know or have; a library might silently use another one instead.

    Args:
        name: Name such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        UsageError: The device is unknown or not available.
    """
    if name == "cpu":
        return
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is not a valid device; use cpu, cuda, or one of several GPUs as cuda:1") from None
    count = device_count(device.type)
    if not count:
        raise UsageError(f"device {name}: PyTorch {torch.__version__} finds none here; use cpu, or a build for it")
    if (device.index or 0) >= count:
        raise UsageError(f"device {name}: only {count} here, counted from {device.type}:0")


def device_count(kind: str) -> int:
    """Return the number of devices of a kind that PyTorch can use."""
    import torch

    if kind == "cpu":
        return 1
    try:
        module = torch.get_device_module(kind)
        return int(module.device_count()) if module.is_available() else 0
    except (RuntimeError, AttributeError, AssertionError):
        return 0
