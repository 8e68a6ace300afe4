"""Where a model can run here."""

from __future__ import annotations

from sottovoce.errors import UsageError


def check_device(name: str) -> None:
    """Refuse a device that PyTorch does not know or does not have here; otherwise a library takes another one silently.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1`` and the like.

    Raises:
        UsageError: It is unknown, or not here.
    """
    if name == "cpu":
        return
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"{name!r} is no device; use cpu, cuda, or one of several GPUs as cuda:1") from None
    count = device_count(device.type)
    if not count:
        raise UsageError(f"device {name}: PyTorch {torch.__version__} finds none here; use cpu, or a build for it")
    if (device.index or 0) >= count:
        raise UsageError(f"device {name}: only {count} here, counted from {device.type}:0")


def device_count(kind: str) -> int:
    """How many devices of a kind PyTorch can use here."""
    import torch

    if kind == "cpu":
        return 1
    try:
        module = torch.get_device_module(kind)
        return int(module.device_count()) if module.is_available() else 0
    except (RuntimeError, AttributeError, AssertionError):
        return 0
