"""The files of a checkpoint: tensors by name, none read before it is asked for, and every damage named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from core.drawn import normal
from sottovoce.checkpoint import shards as module
from sottovoce.checkpoint.shards import INDEX, WEIGHTS, Shards, say_choice, start_of, weight_files
from sottovoce.errors import CheckpointError, SourceError, UsageError

TENSORS = {
    "a.weight": normal(3, 4),
    "a.bias": normal(3, seed=1).bfloat16(),
    "b": torch.arange(5),
    "c": normal(2, 2, 2, seed=2).to(torch.float8_e4m3fn),
    "empty": torch.zeros(0, 3),
    "one": torch.tensor(7, dtype=torch.int8),
}
FILES = {"x.safetensors": ["a.weight", "b"], "y.safetensors": ["a.bias", "empty"], "z.safetensors": ["c", "one"]}


def same(one: Tensor, other: Tensor) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.view(-1).view(torch.uint8).equal(other.view(-1).view(torch.uint8))
    )


def write(directory: Path, index: bool = True) -> Path:
    directory.mkdir(exist_ok=True)
    for file, names in FILES.items():
        save_file({name: TENSORS[name] for name in names}, directory / file)
    if index:
        names = {name: file for file, held in FILES.items() for name in held}
        (directory / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


def test_shards_know_names_shapes_and_types(directory: Path) -> None:
    shards = Shards.of(directory)
    assert set(shards.names) == set(TENSORS)
    assert len(shards) == len(TENSORS)
    for name, tensor in TENSORS.items():
        assert shards.shape(name) == tuple(tensor.shape)
    assert shards.file_of("c") == directory / "z.safetensors"
    assert shards.file_of("d") is None


@pytest.mark.parametrize("how", ["read", "map"])
def test_read_returns_stored_values(how: str, directory: Path) -> None:
    shards = Shards.of(directory)
    found = getattr(shards, how)(reversed(shards.names))
    assert set(found) == set(TENSORS)
    assert all(same(found[name], tensor) for name, tensor in TENSORS.items())
    assert getattr(shards, how)([]) == {}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shared") / "model")


@given(names=st.lists(st.sampled_from(sorted(TENSORS)), unique=True))
def test_read_returns_only_the_requested_tensors(names: list[str], shared: Path) -> None:
    shards = Shards.of(shared)
    for found in (shards.read(iter(names)), shards.map(iter(names))):
        assert set(found) == set(names)
        assert all(same(found[name], TENSORS[name]) for name in names)


@pytest.mark.parametrize("part_bytes", [1, 40, 10**9])
def test_read_is_the_same_for_any_part_size(part_bytes: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PART_BYTES", part_bytes)
    found = Shards.of(directory).read(TENSORS)
    assert all(same(found[name], tensor) for name, tensor in TENSORS.items())


def test_read_tensor_outlives_its_file(directory: Path) -> None:
    found = Shards.of(directory).read(["a.weight"])
    path = directory / "x.safetensors"
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    path.unlink()
    assert same(found["a.weight"], TENSORS["a.weight"])


def test_mapped_tensor_shares_its_file(directory: Path) -> None:
    found = Shards.of(directory).map(["a.weight"])
    path = directory / "x.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 200 if size > 400 else size // 2)
        file.write(b"\0" * (size - file.tell()))
    assert not same(found["a.weight"], TENSORS["a.weight"])


def test_single_file_needs_no_index(tmp_path: Path) -> None:
    save_file({"a": TENSORS["b"]}, tmp_path / WEIGHTS)
    assert Shards.of(tmp_path).read(["a"])["a"].equal(TENSORS["b"])
    assert weight_files(tmp_path) == [tmp_path / WEIGHTS]


def rename_in_index(directory: Path, **changes: str | None) -> None:
    index = json.loads((directory / INDEX).read_text())
    names = {name: file for name, file in (index["weight_map"] | changes).items() if file is not None}
    (directory / INDEX).write_text(json.dumps({"weight_map": names}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"b": "y.safetensors"}, "b"),
        ({"b": None}, "b"),
        ({"more": "x.safetensors"}, "more"),
        ({"b": "y.safetensors", "one": None}, "b"),
    ],
    ids=["another file", "forgotten", "promised", "both"],
)
def test_index_that_disagrees_with_its_files_is_refused(changes: dict[str, str], named: str, directory: Path) -> None:
    rename_in_index(directory, **changes)
    with pytest.raises(CheckpointError, match=f"does not agree with the files on . tensors?, such as '{named}'"):
        Shards.of(directory)


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/passwd", "C:\\x.safetensors", "~/x.safetensors"])
def test_index_that_leaves_the_directory_is_refused(file: str, directory: Path) -> None:
    save_file({"b": TENSORS["b"]}, directory.parent / "x.safetensors")
    rename_in_index(directory, b=file)
    with pytest.raises(SourceError, match="leaves the model's directory"):
        Shards.of(directory)


def test_link_that_leaves_the_directory_is_refused(directory: Path) -> None:
    path = directory / "x.safetensors"
    path.rename(directory.parent / "elsewhere.safetensors")
    path.symlink_to(directory.parent / "elsewhere.safetensors")
    with pytest.raises(SourceError, match="'x.safetensors' leaves the model's directory"):
        Shards.of(directory)


def test_missing_files_are_named(directory: Path) -> None:
    (directory / "x.safetensors").unlink()
    (directory / "z.safetensors").unlink()
    with pytest.raises(SourceError, match=r"the weights are missing: x\.safetensors, z\.safetensors"):
        Shards.of(directory)
    with pytest.raises(SourceError, match=r"the weights are missing \(no x\.safetensors\)"):
        Shards([directory / "x.safetensors"])


def test_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"the weights are missing \(no {WEIGHTS}\)"):
        Shards.of(tmp_path)


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": "x"}'])
def test_index_without_a_map_is_refused(index: str, directory: Path) -> None:
    (directory / INDEX).write_text(index)
    with pytest.raises(SourceError, match="has no weight_map"):
        Shards.of(directory)


@pytest.mark.parametrize("index", ["", "{", "[1]", '{"weight_map": {"a": "${HOME}"}}'])
def test_broken_index_is_refused(index: str, directory: Path) -> None:
    (directory / INDEX).write_text(index)
    with pytest.raises(SourceError, match=r"index\.json") as caught:
        Shards.of(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [None, 3, [], {}])
def test_index_with_invalid_file_names_is_refused(name: object, directory: Path) -> None:
    index = json.loads((directory / INDEX).read_text())
    index["weight_map"]["b"] = name
    (directory / INDEX).write_text(json.dumps(index))
    with pytest.raises(SourceError):
        Shards.of(directory)


def test_tensor_in_two_files_is_refused(directory: Path) -> None:
    save_file({"b": TENSORS["b"], "one": TENSORS["one"]}, directory / "z.safetensors")
    with pytest.raises(CheckpointError, match=r"z\.safetensors: holds 'b', which x\.safetensors holds too"):
        Shards([directory / "x.safetensors", directory / "z.safetensors"])


@given(keep=st.floats(0, 0.999))
def test_truncated_file_is_named(keep: float, shared: Path) -> None:
    whole = (shared / "x.safetensors").read_bytes()
    cut = shared / "cut.safetensors"
    cut.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(SourceError, match=r"cut\.safetensors: the weights are damaged") as caught:
        Shards([cut])
    assert "\n" not in str(caught.value)


def test_file_truncated_after_opening_is_named(directory: Path) -> None:
    shards = Shards.of(directory)
    path = directory / "x.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"x\.safetensors: the weights are damaged"):
        shards.read(["b"])
    with pytest.raises(SourceError, match=r"x\.safetensors: the weights are damaged"):
        shards.map(["b"])
    assert same(shards.read(["c"])["c"], TENSORS["c"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull` there"),
        (b"<html>not found</html>", "damaged"),
        (b"PK\x03\x04", "damaged"),
    ],
    ids=["empty", "pointer", "page", "zip"],
)
def test_file_of_another_format_is_named(content: bytes, problem: str, directory: Path) -> None:
    (directory / "y.safetensors").write_bytes(content)
    with pytest.raises(SourceError, match=f"y.safetensors.*{problem}"):
        Shards.of(directory)


def test_start_of_a_file_is_read(directory: Path) -> None:
    assert start_of(directory / "x.safetensors") == (directory / "x.safetensors").read_bytes()[:23]


def test_single_file_is_preferred_to_an_index_with_a_warning(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({"new": TENSORS["b"]}, directory / WEIGHTS)
    assert Shards.of(directory).names == ("new",)
    say_choice(directory)
    [record] = caplog.records
    assert f"reading the weights {WEIGHTS}, as transformers does" in record.getMessage()
    assert INDEX in record.getMessage()


def test_file_named_by_the_configuration_is_preferred(directory: Path) -> None:
    save_file({"new": TENSORS["b"]}, directory / WEIGHTS)
    (directory / "config.json").write_text(json.dumps({"transformers_weights": "x.safetensors"}))
    assert set(Shards.of(directory).names) == set(FILES["x.safetensors"])


@pytest.mark.parametrize(
    ("asked", "names"), [(INDEX, list(TENSORS)), (WEIGHTS, ["new"]), ("z.safetensors", FILES["z.safetensors"])]
)
def test_requested_weights_are_read_without_a_warning(
    asked: str, names: list[str], directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file({"new": TENSORS["b"]}, directory / WEIGHTS)
    assert set(Shards.of(directory, asked).names) == set(names)
    say_choice(directory, asked)
    assert not caplog.records


def test_requested_weights_of_another_kind_are_refused(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UsageError, match="is read from safetensors"):
        weight_files(directory, "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"there are: model\.safetensors\.index\.json, pytorch_model\.bin, x\.saf"):
        weight_files(directory, "none.safetensors")


def test_single_set_of_weights_gives_no_warning(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    say_choice(directory)
    assert not caplog.records
