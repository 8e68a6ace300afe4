"""A device that is not there is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sottovoce
from sottovoce.errors import UsageError
from sottovoce.system import device
from sottovoce.system.device import check_device, device_count


def test_cpu_is_always_available() -> None:
    check_device("cpu")
    check_device("cpu:0")
    assert device_count("cpu") == 1


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "CPU "])
def test_invalid_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid device; use cpu, cuda"):
        check_device(name)


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu", "meta", "vulkan"])
def test_unavailable_device_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if device_count(kind):
        pytest.skip("there is one here")
    with pytest.raises(UsageError, match=f"device {kind}: PyTorch .* finds none here"):
        check_device(kind)


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda")
    check_device("cuda:1")
    with pytest.raises(UsageError, match="device cuda:2: only 2 here, counted from cuda:0"):
        check_device("cuda:2")


def test_device_is_checked_before_the_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "device_count", lambda kind: 0)
    with pytest.raises(UsageError, match="device cuda"):
        sottovoce.load(tmp_path / "missing", device="cuda")
