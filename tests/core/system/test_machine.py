"""Memory of the process: pages of mapped files that are released."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sottovoce.system.machine import release_file

WEIGHTS = torch.arange(1 << 20, dtype=torch.int32)


def resident_bytes(path: Path) -> int:
    """Return the bytes of a mapped file that count as the process's memory."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(f" {path}")
        elif inside and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell or release pages")
@pytest.mark.parametrize("name", ["model.safetensors", "a model - two.safetensors"])
def test_pages_of_one_file_are_released_and_its_values_stay(name: str, tmp_path: Path) -> None:
    paths = tmp_path / name, tmp_path / f"other {name}"
    for path in paths:
        save_file({"weight": WEIGHTS}, path)
    tensors = [load_file(path)["weight"] for path in paths]
    assert all(tensor.equal(WEIGHTS) for tensor in tensors)
    assert all(resident_bytes(path) >= WEIGHTS.nbytes for path in paths)
    release_file(paths[0])
    assert resident_bytes(paths[0]) < WEIGHTS.nbytes // 4
    assert resident_bytes(paths[1]) >= WEIGHTS.nbytes
    assert all(tensor.equal(WEIGHTS) for tensor in tensors)


def test_a_file_that_is_not_mapped_or_not_there_releases_nothing(tmp_path: Path) -> None:
    release_file(tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"0" * 8192)
    release_file(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"0" * 8192
