"""Tensors from files and into modules, strictly; nothing that a file brings is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sottovoce.checkpoint import leave_file_, load_strictly_, read_tensors, write_tensors
from sottovoce.errors import CheckpointError, SourceError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(found[name].equal(STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    "form",
    [
        STATE,
        {"state_dict": STATE},
        {"model_state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"state_dict": {"model": STATE}},
        {f"module.{name}": tensor for name, tensor in STATE.items()},
    ],
)
@pytest.mark.parametrize("as_zip", [True, False])
def test_torch_file_is_read_with_any_nesting(form: dict[str, Any], as_zip: bool, tmp_path: Path) -> None:
    torch.save(form, tmp_path / "model.pt", _use_new_zipfile_serialization=as_zip)
    assert same(read_tensors(tmp_path / "model.pt"))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    assert same(read_tensors(tmp_path / "model.safetensors"))


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("how", ["zip", "legacy", "bare"])
def test_code_in_a_pickle_is_refused_and_not_run(how: str, tmp_path: Path) -> None:
    path, marker = tmp_path / "model.pt", tmp_path / "marker"
    if how == "bare":
        path.write_bytes(pickle.dumps({"a": Bomb(marker)}, protocol=2))
    else:
        torch.save({"a": Bomb(marker)}, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(SourceError, match=r"holds more than tensors \(\w+\.mkdir\), which is not run; save") as caught:
        read_tensors(path)
    assert "weights_only" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("as_zip", [True, False])
def test_numpy_numbers_in_a_trainers_state_are_accepted(kind: str, as_zip: bool, tmp_path: Path) -> None:
    number = np.dtype(kind).type(1)
    form = {"state_dict": STATE, "best": {"acc": number}, "step": number}
    torch.save(form, tmp_path / "model.pt", _use_new_zipfile_serialization=as_zip)
    assert same(read_tensors(tmp_path / "model.pt"))


def truncated(path: Path) -> bytes:
    if path.suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save({"a": torch.ones(10000)}, path)
    return path.read_bytes()[: path.stat().st_size // 2]


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>not found</html>", "damaged"),
        (bytes(4096), "damaged"),
        (b"PK\x03\x04" + bytes(100), "damaged"),
        (truncated, "damaged"),
    ],
)
def test_damaged_file_is_one_line(content: Any, problem: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content(path))
    with pytest.raises(SourceError, match=problem) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [[1, 2], {"epoch": 3}, {1: torch.ones(1)}, torch.ones(3)])
def test_torch_file_without_a_state_dict_is_refused(form: Any, tmp_path: Path) -> None:
    torch.save(form, tmp_path / "model.pt")
    with pytest.raises(SourceError, match="not a state dict"):
        read_tensors(tmp_path / "model.pt")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"the weights are missing \(no model\.pt\)"):
        read_tensors(tmp_path / "model.pt")


def test_load_lists_all_mismatches() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {"0.weight": torch.zeros(3, 3), **{f"extra.{number}": torch.zeros(1) for number in range(7)}}
    with pytest.raises(CheckpointError) as caught:
        load_strictly_(module, tensors, "weights.pt")
    assert str(caught.value) == (
        "weights.pt: the weights do not fit the model: 5 missing: 0.bias, 1.weight, 1.bias, 2.weight, 2.bias; "
        "1 misshapen: 0.weight [3, 3] for [2, 3]; "
        "7 unexpected: extra.0, extra.1, extra.2, extra.3, extra.4, ..."
    )
    assert all(module.state_dict()[name].equal(before[name]) for name in before)


def test_unexpected_tensors_can_be_left_out_by_name() -> None:
    module = nn.Linear(3, 2)
    tensors = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "head.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="1 unexpected: head.weight; leave unexpected tensors out with allow"):
        load_strictly_(module, tensors, "weights.pt", ["re:tail.*"])
    load_strictly_(module, tensors, "weights.pt", [r"re:head\..*"])
    assert module.weight.equal(torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensor_is_converted_to_the_modules_type(dtype: torch.dtype) -> None:
    module = nn.BatchNorm1d(2)
    state = module.state_dict()
    tensors = {name: torch.ones_like(tensor) for name, tensor in state.items()}
    tensors |= {name: tensor.to(dtype) for name, tensor in tensors.items() if tensor.is_floating_point()}
    load_strictly_(module, tensors, "weights.pt")
    assert module.weight.dtype == torch.float32
    assert module.num_batches_tracked.dtype == torch.int64  # type: ignore[union-attr]
    assert module(torch.ones(2, 2)).dtype == torch.float32


def test_meta_module_is_filled() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    load_strictly_(module, {"weight": torch.ones(2, 3), "bias": torch.ones(2)}, "weights.pt")
    assert module(torch.ones(3)).tolist() == [4.0, 4.0]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("part", self.embed.weight.detach()[1:])
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)
        self.register_buffer("none", torch.zeros(0))


def test_tensors_with_shared_memory_are_written_under_every_name(tmp_path: Path) -> None:
    module = Tied()
    write_tensors(module, tmp_path / "model.safetensors", {"made": "here"})
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == module.state_dict().keys()
    assert all(found[name].equal(tensor) for name, tensor in module.state_dict().items())


def test_written_weights_have_default_permissions(tmp_path: Path) -> None:
    write_tensors(nn.Linear(2, 2), tmp_path / "model.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_full_disk_raises_an_os_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", lambda path: path.mkdir())
    with pytest.raises(OSError):
        write_tensors(nn.Linear(2, 2), tmp_path / "model.safetensors")


def test_leave_file_keeps_values_and_ties(tmp_path: Path) -> None:
    module = nn.Linear(4, 4)
    write_tensors(module, tmp_path / "a.safetensors")
    load_strictly_(module, read_tensors(tmp_path / "a.safetensors"), "a")
    both = nn.ModuleList([module, nn.Linear(4, 4)])
    both[1].weight = module.weight
    mapped = module.weight.data_ptr()
    before = module.weight.clone()
    leave_file_(both)
    assert module.weight.data_ptr() != mapped
    assert module.weight.equal(before)
    assert both[1].weight is module.weight


KINDS = [torch.int8, torch.uint8, torch.int32, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_integer_in_place_of_a_float_is_refused(dtype: torch.dtype) -> None:
    tensors = {"weight": torch.zeros(2, 3).to(dtype), "bias": torch.zeros(2)}
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"1 of another type: weight {name} \[2, 3\] for float32 \[2, 3\]"):
        load_strictly_(nn.Linear(3, 2), tensors, "weights.pt")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.float32, torch.bool], ids=str)
def test_integer_of_another_type_is_refused(dtype: torch.dtype) -> None:
    module = nn.Module()
    module.register_buffer("weight", torch.zeros(2, dtype=torch.int8))
    with pytest.raises(CheckpointError, match="1 of another type: weight"):
        load_strictly_(module, {"weight": torch.zeros(2, dtype=dtype)}, "weights.pt")
    load_strictly_(module, {"weight": torch.ones(2, dtype=torch.int8)}, "weights.pt")
    assert module.weight.tolist() == [1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_with_nan_are_refused_with_their_file(value: float) -> None:
    tensors = {"weight": torch.full((2, 3), value), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"weights\.pt: the tensor 'weight' is not finite; the model is damaged"):
        load_strictly_(nn.Linear(3, 2), tensors, "weights.pt")


@pytest.mark.parametrize("name", ["a\x1b[31m\nb", "n" * 100_000], ids=["escapes", "long"])
def test_tensor_names_in_errors_are_short_and_plain(name: str) -> None:
    with pytest.raises(CheckpointError, match="1 unexpected: ") as caught:
        load_strictly_(nn.Linear(3, 2, bias=False), {"weight": torch.zeros(2, 3), name: torch.zeros(1)}, "weights.pt")
    assert len(str(caught.value)) <= 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2, device="meta"), torch.zeros(2).to_sparse()], ids=["without data", "sparse"]
)
def test_sparse_or_quantized_tensor_is_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"a": tensor}, tmp_path / "model.pt")
    with pytest.raises(SourceError, match="a is not a plain tensor"):
        read_tensors(tmp_path / "model.pt")
