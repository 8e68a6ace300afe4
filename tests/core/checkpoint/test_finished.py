"""Finished blocks: given back whole, only to the work that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.drawn import SCHEMES, linear, name_of, normal, rounded
from sottovoce.checkpoint.finished import FinishedBlocks
from sottovoce.formats.layers import empty, from_steps, replace_
from sottovoce.scheme import Scheme

FOUR, EIGHT = Scheme(bits=4, group_size=32, symmetric=False), Scheme(activations="dynamic", strategy="token")


class Block(nn.Module):
    """A normalization and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.one, self.two = nn.LayerNorm(64), linear(64, 64), linear(64, 64, False)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.two(torch.relu(self.one(self.norm(x))))  # type: ignore[no-any-return]


def make() -> nn.Module:
    return nn.ModuleDict({"blocks": nn.ModuleList([Block(), Block()]), "head": linear(64, 8)}).eval()


def quantize_(module: nn.Module, name: str, scheme: Scheme) -> None:
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    replace_(module, name, from_steps(layer, *rounded(layer, scheme)))


def preparing(module: nn.Module, schemes: Mapping[str, Scheme]) -> Callable[[Mapping[str, Any]], None]:
    """Puts empty layers where the facts say that quantized ones were."""

    def prepare(facts: Mapping[str, Any]) -> None:
        for name in facts:
            made = empty(module.get_submodule(name), schemes[name])
            assert made is not None
            replace_(module, name, made)

    return prepare


def restore_(directory: Path, module: nn.Module, name: str, schemes: Mapping[str, Scheme], key: str = "key") -> Any:
    return FinishedBlocks(directory, key).restore_(module, name, preparing(module, schemes))


def output(module: nn.Module, name: str = "blocks.0") -> Tensor:
    with torch.inference_mode():
        return module.get_submodule(name)(normal(3, 64))  # type: ignore[no-any-return]


FACTS = {"blocks.0.one": {"bits": 4.6, "snr_db": None}, "blocks.0.two": {"bits": 8.5, "snr_db": 40.1}}
SCHEME_OF = {"blocks.0.one": FOUR, "blocks.0.two": EIGHT}


def finished(directory: Path) -> nn.Module:
    """A module whose first block is done with and kept."""
    module = make()
    with torch.no_grad():
        module.get_submodule("blocks.0.norm").weight.mul_(3)  # type: ignore[operator, union-attr]
    for name, scheme in SCHEME_OF.items():
        quantize_(module, name, scheme)
    FinishedBlocks(directory, "key").keep(module, "blocks.0", FACTS)
    return module


def test_a_block_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    kept, made = finished(tmp_path / "work"), make()
    facts = restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF)
    assert facts == FACTS
    assert [type(child) for child in made.modules()] == [type(child) for child in kept.modules()]
    assert output(made).equal(output(kept))
    assert not output(made).equal(output(make()))
    assert output(made, "blocks.1").equal(output(make(), "blocks.1"))
    tensors = made.state_dict()
    assert all(tensor.equal(tensors[name]) for name, tensor in kept.state_dict().items())
    assert not any(tensor.is_meta for tensor in tensors.values())


@pytest.mark.parametrize("scheme", SCHEMES, ids=name_of)
def test_a_block_may_be_a_layer(scheme: Scheme, tmp_path: Path) -> None:
    kept, made = make(), make()
    quantize_(kept, "head", scheme)
    work = FinishedBlocks(tmp_path / "work", "key")
    work.keep(kept, "head", {"head": {"bits": 4}})
    assert restore_(tmp_path / "work", made, "head", {"head": scheme}) == {"head": {"bits": 4}}
    assert output(made, "head").equal(output(kept, "head"))


def test_layers_that_were_left_are_left(tmp_path: Path) -> None:
    module, made = make(), make()
    quantize_(module, "blocks.0.one", FOUR)
    work = FinishedBlocks(tmp_path / "work", "key")
    work.keep(module, "blocks.0", {"blocks.0.one": {"bits": 4.6}})
    assert restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF) == {"blocks.0.one": {"bits": 4.6}}
    assert isinstance(made.get_submodule("blocks.0.two"), nn.Linear)
    assert output(made).equal(output(module))


def test_a_block_that_was_not_finished_is_left_as_it_is(tmp_path: Path) -> None:
    finished(tmp_path / "work")
    made = make()
    assert restore_(tmp_path / "work", made, "blocks.1", {"blocks.1.one": FOUR}) is None
    assert output(made, "blocks.1").equal(output(make(), "blocks.1"))


@pytest.mark.parametrize("key", ["another", "ke", "key "])
def test_blocks_of_other_work_are_removed(key: str, tmp_path: Path) -> None:
    finished(tmp_path / "work")
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF, key) is None
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None


@pytest.mark.parametrize("key", [b"", b"{}", b'"key', b"\xff"])
def test_a_damaged_key_is_another_key(key: bytes, tmp_path: Path) -> None:
    finished(tmp_path / "work")
    (tmp_path / "work" / "key.json").write_bytes(key)
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None


def test_other_files_in_the_directory_are_nobody_s_to_remove(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    (tmp_path / "letter.txt").touch()
    FinishedBlocks(tmp_path, "key")
    finished(tmp_path)
    FinishedBlocks(tmp_path, "another")
    assert {path.name for path in tmp_path.rglob("*")} == {"photos", "1.jpg", "letter.txt"}


def test_what_was_being_written_is_not_there(tmp_path: Path) -> None:
    finished(tmp_path / "work")
    (path,) = (tmp_path / "work").glob("*.safetensors")
    path.rename(path.with_suffix(".part"))
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None


@pytest.mark.parametrize("size", [0, 7, 300])
def test_a_damaged_block_is_not_finished(size: int, tmp_path: Path) -> None:
    finished(tmp_path / "work")
    (path,) = (tmp_path / "work").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:size])
    made = make()
    assert restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF) is None
    assert output(made).equal(output(make()))


def test_without_a_directory_nothing_is_kept(tmp_path: Path) -> None:
    work, module = FinishedBlocks(None, "key"), make()
    work.keep(module, "blocks.0", FACTS)
    assert work.restore_(module, "blocks.0", preparing(module, SCHEME_OF)) is None
    assert not list(tmp_path.iterdir())


def test_tensors_that_share_memory_are_kept(tmp_path: Path) -> None:
    kept, made = make(), make()
    for module in (kept, made):
        block = module.get_submodule("blocks.0")
        assert isinstance(block, Block)
        block.two.weight = block.one.weight
    with torch.no_grad():
        kept.get_submodule("blocks.0.one").weight.mul_(2)  # type: ignore[operator, union-attr]
    work = FinishedBlocks(tmp_path / "work", "key")
    work.keep(kept, "blocks.0", {})
    assert restore_(tmp_path / "work", made, "blocks.0", {}) == {}
    assert output(made).equal(output(kept))


def test_the_file_may_be_removed_after_it_was_read(tmp_path: Path) -> None:
    kept, made = finished(tmp_path / "work"), make()
    restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF)
    for path in (tmp_path / "work").iterdir():
        path.write_bytes(b"0" * path.stat().st_size)
        path.unlink()
    assert output(made).equal(output(kept))
