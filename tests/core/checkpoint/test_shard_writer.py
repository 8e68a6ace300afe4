"""Writing a checkpoint file by file: what was added is there, in files of limited size, and the index finds it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from core.drawn import normal
from sottovoce.checkpoint import shard_writer
from sottovoce.checkpoint.shard_writer import ShardWriter, write_file
from sottovoce.checkpoint.shards import INDEX, WEIGHTS, Shards


def read(directory: Path) -> dict[str, Tensor]:
    shards = Shards.of(directory)
    return shards.read(shards.names)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        tensor.equal(other[name]) and tensor.dtype == other[name].dtype for name, tensor in one.items()
    )


def test_single_shard_has_no_index(tmp_path: Path) -> None:
    tensors = {"a": normal(4, 4), "b": torch.arange(3)}
    writer = ShardWriter(tmp_path)
    writer.add(tensors.items())
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert same(read(tmp_path), tensors)
    assert writer.total_bytes == 4 * 16 + 8 * 3
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_stay_below_the_limit_and_are_indexed(tmp_path: Path) -> None:
    tensors = {f"layer.{number}": normal(5, 5, seed=number) for number in range(7)}
    writer = ShardWriter(tmp_path, 250)
    writer.add(list(tensors.items())[:3])
    writer.add(list(tensors.items())[3:])
    writer.close()
    names = [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, INDEX]
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 7 * 100
    assert index["weight_map"] == {f"layer.{number}": names[number // 2] for number in range(7)}
    assert list(index["weight_map"]) == sorted(tensors)
    assert same(read(tmp_path), tensors)


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), limit=st.integers(1, 200))
def test_tensors_of_any_sizes_round_trip(
    sizes: list[int], limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("out")
    tensors = {f"t{number}": normal(size, seed=number) for number, size in enumerate(sizes)}
    writer = ShardWriter(directory, limit)
    writer.add(tensors.items())
    writer.close()
    assert same(read(directory), tensors)
    assert writer.total_bytes == 4 * sum(sizes)
    for path in directory.glob("*.safetensors"):
        held = Shards([path])
        total = sum(tensors[name].nbytes for name in held.names)
        assert total <= limit or len([name for name in held.names if tensors[name].nbytes]) == 1


def test_existing_file_is_linked(tmp_path: Path) -> None:
    blocks, out = tmp_path / "blocks", tmp_path / "out"
    blocks.mkdir()
    out.mkdir()
    tensors = [{"b.0.weight": normal(3, 3)}, {"b.1.weight": normal(3, 3, seed=1), "b.1.bias": normal(3)}]
    for number, held in enumerate(tensors):
        write_file(held, blocks / f"{number}.safetensors")
    writer = ShardWriter(out)
    writer.add([("first", torch.ones(2))])
    for number in range(2):
        writer.add_file(blocks / f"{number}.safetensors")
    writer.add([("last", torch.zeros(2))])
    writer.close()
    assert same(read(out), tensors[0] | tensors[1] | {"first": torch.ones(2), "last": torch.zeros(2)})
    index = json.loads((out / INDEX).read_text())["weight_map"]
    assert index["b.0.weight"] == "model-00002-of-00004.safetensors"
    assert (out / index["b.0.weight"]).samefile(blocks / "0.safetensors")
    assert index["b.1.bias"] == index["b.1.weight"] != index["last"]


def test_single_existing_file_becomes_the_checkpoint(tmp_path: Path) -> None:
    write_file({"a": torch.ones(2)}, tmp_path / "block.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    writer = ShardWriter(out)
    writer.add_file(tmp_path / "block.safetensors")
    writer.close()
    assert [path.name for path in out.iterdir()] == [WEIGHTS]
    assert (tmp_path / "block.safetensors").is_file()


def test_file_is_copied_if_links_are_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("another device")

    monkeypatch.setattr(os, "link", refuse)
    write_file({"a": torch.ones(2)}, tmp_path / "block.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    writer = ShardWriter(out)
    writer.add_file(tmp_path / "block.safetensors")
    writer.close()
    assert not (out / WEIGHTS).samefile(tmp_path / "block.safetensors")
    assert same(read(out), {"a": torch.ones(2)})


def test_total_size_counts_tensor_bytes(tmp_path: Path) -> None:
    write_file({"a": torch.ones(2)}, tmp_path / "block.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    writer = ShardWriter(out)
    writer.add_file(tmp_path / "block.safetensors")
    writer.add([("b", torch.ones(3))])
    writer.close()
    assert json.loads((out / INDEX).read_text())["metadata"]["total_size"] == 4 * (2 + 3)


def test_files_get_final_names_on_close(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, 10)
    writer.add((str(number), normal(4)) for number in range(3))
    assert not list(tmp_path.glob("*.safetensors"))
    assert not (tmp_path / INDEX).exists()
    writer.close()
    assert not list(tmp_path.glob("*.part"))


def test_full_disk_is_an_os_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_file({"a": normal(100, 100)}, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)


class TestWriteFile:
    def test_every_tensor_with_shared_memory_is_written(self, tmp_path: Path) -> None:
        whole = normal(6, 4)
        tensors = {"whole": whole, "again": whole, "row": whole[2], "rest": whole[3:], "other": whole.clone()}
        write_file(tensors, tmp_path / "a.safetensors")
        assert same(Shards([tmp_path / "a.safetensors"]).read(tensors), tensors)

    def test_tensors_without_overlap_are_not_copied(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = normal(6, 4)
        monkeypatch.setattr(torch.Tensor, "clone", None)
        write_file({"first": whole[:3], "second": whole[3:]}, tmp_path / "a.safetensors")
        monkeypatch.undo()
        assert same(
            Shards([tmp_path / "a.safetensors"]).read(["first", "second"]), {"first": whole[:3], "second": whole[3:]}
        )

    def test_file_has_default_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "plain").touch()
        write_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
        assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_metadata_is_kept(self, tmp_path: Path) -> None:
        write_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"more": "yes"})
        with safe_open(tmp_path / "a.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt", "more": "yes"}


def test_default_shard_limit_is_two_gigabytes() -> None:
    assert shard_writer.SHARD_BYTES == 2_000_000_000
