"""Finished blocks: given back whole, only to the work that they are of."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import floats, integers, sampled_from
from torch import Tensor, nn

from core.drawn import SCHEMES, linear, name_of, normal, rounded
from sottovoce.calibration.resume import CompletedBlocks
from sottovoce.errors import OutputError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import empty, from_quantized, replace_

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
    replace_(module, name, from_quantized(layer, *rounded(layer, scheme)))


def preparing(module: nn.Module, schemes: Mapping[str, Scheme]) -> Callable[[Mapping[str, Any]], None]:
    """Puts empty layers where the facts say that quantized ones were."""

    def prepare(facts: Mapping[str, Any]) -> None:
        for name in facts:
            made = empty(module.get_submodule(name), schemes[name])
            assert made is not None
            replace_(module, name, made)

    return prepare


def restore_(directory: Path, module: nn.Module, name: str, schemes: Mapping[str, Scheme], key: str = "key") -> Any:
    return CompletedBlocks(directory, key).restore(module, name, preparing(module, schemes))


def output(module: nn.Module, name: str = "blocks.0") -> Tensor:
    with torch.inference_mode():
        return module.get_submodule(name)(normal(3, 64))  # type: ignore[no-any-return]


FACTS = {"blocks.0.one": {"bits": 4.6, "snr_db": None}, "blocks.0.two": {"bits": 8.5, "snr_db": 40.1}}
SCHEME_OF = {"blocks.0.one": FOUR, "blocks.0.two": EIGHT}


def keep_completed_block(directory: Path) -> nn.Module:
    """A module whose first block is completed and kept."""
    module = make()
    with torch.no_grad():
        module.get_submodule("blocks.0.norm").weight.mul_(3)  # type: ignore[operator, union-attr]
    for name, scheme in SCHEME_OF.items():
        quantize_(module, name, scheme)
    CompletedBlocks(directory, "key").keep(module, "blocks.0", FACTS)
    return module


def test_kept_block_is_restored_exactly(tmp_path: Path) -> None:
    kept, made = keep_completed_block(tmp_path / "work"), make()
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
def test_single_layer_is_restored_exactly(scheme: Scheme, tmp_path: Path) -> None:
    kept, made = make(), make()
    quantize_(kept, "head", scheme)
    work = CompletedBlocks(tmp_path / "work", "key")
    work.keep(kept, "head", {"head": {"bits": 4}})
    assert restore_(tmp_path / "work", made, "head", {"head": scheme}) == {"head": {"bits": 4}}
    assert output(made, "head").equal(output(kept, "head"))


def test_unquantized_layers_of_a_block_stay_float(tmp_path: Path) -> None:
    module, made = make(), make()
    quantize_(module, "blocks.0.one", FOUR)
    work = CompletedBlocks(tmp_path / "work", "key")
    work.keep(module, "blocks.0", {"blocks.0.one": {"bits": 4.6}})
    assert restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF) == {"blocks.0.one": {"bits": 4.6}}
    assert isinstance(made.get_submodule("blocks.0.two"), nn.Linear)
    assert output(made).equal(output(module))


def test_incomplete_block_is_not_restored(tmp_path: Path) -> None:
    keep_completed_block(tmp_path / "work")
    made = make()
    assert restore_(tmp_path / "work", made, "blocks.1", {"blocks.1.one": FOUR}) is None
    assert output(made, "blocks.1").equal(output(make(), "blocks.1"))


@pytest.mark.parametrize("key", ["another", "ke", "key "])
def test_blocks_of_another_key_are_removed(key: str, tmp_path: Path) -> None:
    keep_completed_block(tmp_path / "work")
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF, key) is None
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None


@pytest.mark.parametrize("key", [b"", b"{}", b'"key', b"\xff"])
def test_damaged_key_file_discards_blocks(key: bytes, tmp_path: Path) -> None:
    keep_completed_block(tmp_path / "work")
    (tmp_path / "work" / "key.json").write_bytes(key)
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None


def test_foreign_files_in_the_directory_are_kept(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    (tmp_path / "letter.txt").touch()
    CompletedBlocks(tmp_path, "key")
    keep_completed_block(tmp_path)
    CompletedBlocks(tmp_path, "another")
    assert {path.name for path in tmp_path.rglob("*")} == {"photos", "1.jpg", "letter.txt"}


def test_partly_written_block_is_not_restored(tmp_path: Path) -> None:
    keep_completed_block(tmp_path / "work")
    (path,) = (tmp_path / "work").glob("*.safetensors")
    path.rename(path.with_suffix(".part"))
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one completed block, which no test changes."""
    directory = tmp_path_factory.mktemp("completed") / "work"
    keep_completed_block(directory)
    return directory


def copied(work: Path, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(work, folder)
    return folder


def assert_discarded(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Check that the damaged block is not used, is said in one line, and is gone."""
    caplog.clear()
    made = make()
    assert restore_(directory, made, "blocks.0", SCHEME_OF) is None
    assert output(made).equal(output(make()))
    assert [record.getMessage() for record in caplog.records] == [
        f"{directory}: the completed block blocks.0 is damaged; it is processed again"
    ]
    assert {path.name for path in directory.iterdir()} == {"key.json"}
    assert restore_(directory, make(), "blocks.0", SCHEME_OF) is None
    assert len(caplog.records) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=floats(0, 1, exclude_max=True), bit=integers(0, 7), kind=sampled_from(["safetensors", "json"]))
def test_block_with_a_flipped_bit_is_discarded(
    place: float, bit: int, kind: str, work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copied(work, tmp_path / "work")
    path = next(path for path in directory.glob(f"*.{kind}") if path.name != "key.json")
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    assert_discarded(directory, caplog)


def zeros_behind_the_header(content: bytes) -> bytes:
    begin = 8 + int.from_bytes(content[:8], "little")
    return content[:begin] + bytes(len(content) - begin)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:7],
        lambda content: content[:-1],
        lambda content: content + b"x",
        zeros_behind_the_header,
        lambda content: bytes(len(content)),
    ],
    ids=["empty", "short", "one byte less", "one byte more", "zeros for numbers", "zeros"],
)
def test_block_with_damaged_tensors_is_discarded(
    damage: Callable[[bytes], bytes], work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copied(work, tmp_path / "work")
    (path,) = directory.glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    assert_discarded(directory, caplog)


@pytest.mark.parametrize(
    "facts",
    [
        "{}",
        "[]",
        "3",
        "null",
        '"x"',
        "",
        "NaN",
        "\0",
        "[" * 100_000,
        '{"steps": [{}]}',
        '{"sha256": 1, "block": 2}',
        '{"sha256": "", "block": ""}',
        '{"sha256": "x", "block": "{}"}',
        '{"block": "{}"}',
        '{"sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "block": "{}"}',
    ],
)
def test_block_with_invalid_facts_is_discarded(
    facts: str, work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = copied(work, tmp_path / "work")
    path = next(path for path in directory.glob("*.json") if path.name != "key.json")
    path.write_text(facts)
    assert_discarded(directory, caplog)


def test_block_with_another_block_s_tensors_is_discarded(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = make()
    quantize_(other, "blocks.0.one", FOUR)
    CompletedBlocks(tmp_path / "other", "key").keep(other, "blocks.0", {"blocks.0.one": {}})
    directory = copied(work, tmp_path / "work")
    (path,) = (tmp_path / "other").glob("*.safetensors")
    path.replace(directory / path.name)
    assert_discarded(directory, caplog)


def test_blocks_of_an_older_version_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_completed_block(tmp_path / "work")
    (tmp_path / "work" / "key.json").write_text('"key"')
    path = next(path for path in (tmp_path / "work").glob("*.json") if path.name != "key.json")
    path.write_text('{"blocks.0.one": {"bits": 4.6}}')
    assert restore_(tmp_path / "work", make(), "blocks.0", SCHEME_OF) is None
    assert not list((tmp_path / "work").iterdir())


def test_block_of_another_model_is_an_error(tmp_path: Path) -> None:
    work, module = CompletedBlocks(tmp_path / "work", "key"), make()
    work.keep(module, "blocks.0", {})
    other = make()
    other.get_submodule("blocks.0").register_buffer("more", torch.zeros(1))
    with pytest.raises(OutputError, match=r"the block blocks\.0 is of another model; remove the directory"):
        work.restore(other, "blocks.0", lambda facts: None)


def test_failed_write_keeps_the_earlier_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep_completed_block(tmp_path / "work")

    def refuse(_: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OutputError, match=r"work: could not be written \(the disk is gone\)"):
        CompletedBlocks(tmp_path / "work", "key").keep(make(), "blocks.0", {})
    assert not list((tmp_path / "work").glob("*.part"))
    made = make()
    assert restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF) == FACTS
    assert output(made).equal(output(kept))


def test_blocks_without_a_directory_are_not_kept(tmp_path: Path) -> None:
    work, module = CompletedBlocks(None, "key"), make()
    work.keep(module, "blocks.0", FACTS)
    assert work.restore(module, "blocks.0", preparing(module, SCHEME_OF)) is None
    assert not list(tmp_path.iterdir())


def test_tied_tensors_of_a_block_are_restored(tmp_path: Path) -> None:
    kept, made = make(), make()
    for module in (kept, made):
        block = module.get_submodule("blocks.0")
        assert isinstance(block, Block)
        block.two.weight = block.one.weight
    with torch.no_grad():
        kept.get_submodule("blocks.0.one").weight.mul_(2)  # type: ignore[operator, union-attr]
    work = CompletedBlocks(tmp_path / "work", "key")
    work.keep(kept, "blocks.0", {})
    assert restore_(tmp_path / "work", made, "blocks.0", {}) == {}
    assert output(made).equal(output(kept))


def test_restored_block_does_not_depend_on_its_file(tmp_path: Path) -> None:
    kept, made = keep_completed_block(tmp_path / "work"), make()
    restore_(tmp_path / "work", made, "blocks.0", SCHEME_OF)
    for path in (tmp_path / "work").iterdir():
        path.write_bytes(b"0" * path.stat().st_size)
        path.unlink()
    assert output(made).equal(output(kept))
