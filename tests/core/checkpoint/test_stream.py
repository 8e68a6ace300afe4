"""Blocks that stay on disk: they come whole, go without a trace, and are written from wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.drawn import normal
from sottovoce.checkpoint.manifest import digest_of
from sottovoce.checkpoint.shard_writer import ShardWriter, write_file
from sottovoce.checkpoint.shards import Shards
from sottovoce.checkpoint.stream import Stream
from sottovoce.errors import CheckpointError, OutputError, SourceError

SIZES = (4, 8, 4)


class Block(nn.Module):
    def __init__(self, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, inner), nn.Linear(inner, 4, bias=False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("table", torch.ones(3), persistent=False)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.blocks = nn.ModuleList(map(Block, SIZES))
        self.head = nn.Linear(4, 5)


BLOCKS = [f"blocks.{number}" for number in range(3)]


def rename(name: str) -> str:
    """The name in the checkpoint."""
    return name.replace("blocks.", "h.")


def back(name: str) -> str:
    return name.replace("h.", "blocks.")


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    state = Model().state_dict()
    return {
        rename(name): normal(*tensor.shape, seed=number) if tensor.is_floating_point() else tensor + 40 + number
        for number, (name, tensor) in enumerate(state.items())
    }


@pytest.fixture
def source(tensors: dict[str, Tensor], tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    writer = ShardWriter(tmp_path / "source", 200)
    writer.add(tensors.items())
    writer.close()
    return tmp_path / "source"


@pytest.fixture
def stream(source: Path) -> Stream:
    shards, module = Shards.of(source), Model()
    names = {
        block: {f"{block}.{name}": rename(f"{block}.{name}") for name in module.get_submodule(block).state_dict()}
        for block in BLOCKS
    }
    for block in BLOCKS:
        module.get_submodule(block).to("meta")
    outside = [name for name in shards.names if not name.startswith("h.")]
    module.load_state_dict(shards.map(outside), strict=False, assign=True)
    return Stream(module, names, shards)


def state(stream: Stream, block: str) -> dict[str, Tensor]:
    return {
        rename(f"{block}.{name}"): tensor for name, tensor in stream.module.get_submodule(block).state_dict().items()
    }


def is_there(stream: Stream, block: str) -> bool:
    return not any(tensor.is_meta for tensor in state(stream, block).values())


def test_block_is_loaded_from_the_source_and_offloaded(stream: Stream, tensors: dict[str, Tensor]) -> None:
    stream.load_block("blocks.1", rename)
    assert [is_there(stream, block) for block in BLOCKS] == [False, True, False]
    found = state(stream, "blocks.1")
    assert found
    assert all(tensor.equal(tensors[name]) and tensor.dtype == tensors[name].dtype for name, tensor in found.items())
    stream.offload_block("blocks.1")
    assert all(tensor.is_meta for tensor in stream.module.get_submodule("blocks.1").state_dict().values())


def test_loaded_block_is_not_read_again(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.load_block("blocks.0", rename)
    with torch.no_grad():
        stream.module.get_submodule("blocks.0.up").weight.fill_(3)  # type: ignore[operator, union-attr]
    monkeypatch.setattr(Shards, "read", None)
    stream.load_block("blocks.0", rename)
    assert bool((stream.module.get_submodule("blocks.0.up").weight == 3).all())


def changed(stream: Stream, block: str, path: Path) -> dict[str, Tensor]:
    """Change a block, keep it in a file, and let it go."""
    stream.load_block(block, rename)
    with torch.no_grad():
        stream.module.get_submodule(f"{block}.up").weight.add_(1)  # type: ignore[operator, union-attr]
    found = {name: tensor.clone() for name, tensor in state(stream, block).items()}
    write_file(found, path)
    stream.files[block] = path
    stream.offload_block(block)
    return found


def test_changed_block_is_loaded_from_its_file(stream: Stream, tmp_path: Path) -> None:
    want = changed(stream, "blocks.2", tmp_path / "2.safetensors")
    stream.load_block("blocks.2", rename)
    assert all(tensor.equal(want[name]) for name, tensor in state(stream, "blocks.2").items())


def test_block_is_converted_to_the_modules_type(stream: Stream) -> None:
    stream.module.get_submodule("blocks.0").bfloat16()
    stream.load_block("blocks.0", rename)
    kinds = {name.rpartition(".")[2]: tensor.dtype for name, tensor in state(stream, "blocks.0").items()}
    assert kinds == {"weight": torch.bfloat16, "bias": torch.bfloat16, "count": torch.int64}


def test_write_stores_all_tensors(stream: Stream, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    want = tensors | changed(stream, "blocks.1", tmp_path / "1.safetensors")
    out = tmp_path / "out"
    out.mkdir()
    writer = ShardWriter(out)
    stream.write(writer, rename)
    writer.close()
    found = Shards.of(out)
    assert set(found.names) == set(tensors)
    assert all(tensor.equal(want[name]) for name, tensor in found.read(found.names).items())
    assert not want["h.1.up.weight"].equal(tensors["h.1.up.weight"])
    assert not any(is_there(stream, block) for block in BLOCKS)
    # A file for each block, and one for all else.
    assert len(list(out.glob("*.safetensors"))) == 4


def test_write_leaves_out_the_named_tensors(stream: Stream, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    writer = ShardWriter(out)
    stream.write(writer, rename, {"head.weight"})
    writer.close()
    assert set(Shards.of(out).names) == set(tensors) - {"head.weight"}


def test_file_that_lacks_a_tensor_is_refused(stream: Stream, tmp_path: Path) -> None:
    want = changed(stream, "blocks.2", tmp_path / "2.safetensors")
    del want["h.2.up.bias"]
    write_file(want, tmp_path / "2.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.2: 1 tensor is missing, such as 'h\.2\.up\.bias'"):
        stream.load_block("blocks.2", rename)


def test_file_that_is_damaged_is_named(stream: Stream, tmp_path: Path) -> None:
    path = tmp_path / "2.safetensors"
    changed(stream, "blocks.2", path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"2\.safetensors: the weights are damaged"):
        stream.load_block("blocks.2", rename)
    path.unlink()
    with pytest.raises(SourceError, match=r"the weights are missing \(no 2\.safetensors\)"):
        stream.load_block("blocks.2", rename)


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_recorded_file_that_changed_is_refused(damage: str, stream: Stream, tmp_path: Path) -> None:
    path = tmp_path / "2.safetensors"
    want = changed(stream, "blocks.2", path)
    stream.note("blocks.2", path, digest_of(path))
    stream.load_block("blocks.2", rename)
    assert all(tensor.equal(want[name]) for name, tensor in state(stream, "blocks.2").items())
    stream.offload_block("blocks.2")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if damage == "gone":
        path.unlink()
    with pytest.raises(OutputError, match=r"2\.safetensors: the file of block blocks\.2 changed on disk; nothing"):
        stream.load_block("blocks.2", rename)


def test_largest_block_is_known_on_meta(stream: Stream) -> None:
    inner = 8
    assert stream.largest_bytes == 4 * (4 * inner + inner + 4 * inner) + 8


def test_released_pages_are_read_again(stream: Stream, tensors: dict[str, Tensor]) -> None:
    stream.release_pages()
    assert stream.module.get_submodule("embed").weight.equal(tensors["embed.weight"])  # type: ignore[operator, union-attr]


def test_temporary_directories_are_removed_with_the_stream(stream: Stream) -> None:
    one, other = stream.new_directory(), stream.new_directory()
    assert one != other
    assert one.is_dir()
    assert other.is_dir()
    assert one.parent == other.parent
    folder = one.parent
    stream.__dict__.clear()
    assert folder.is_dir()
