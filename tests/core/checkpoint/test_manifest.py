"""What was written is what is there."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sottovoce.checkpoint import digests, manifest, verify
from sottovoce.checkpoint.manifest import check_listed, read_manifest, verified_meanwhile
from sottovoce.errors import CheckpointError, SourceError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    (tmp_path / "sub" / "b.txt").write_text("b")
    return tmp_path


def test_digests_are_keyed_by_relative_path(directory: Path) -> None:
    assert digests(directory) == {
        "a.bin": hashlib.sha256(bytes(range(256))).hexdigest(),
        "sub/b.txt": hashlib.sha256(b"b").hexdigest(),
    }


def test_unchanged_directory_is_verified(directory: Path) -> None:
    verify(directory, digests(directory))


def test_additional_file_is_accepted(directory: Path) -> None:
    expected = digests(directory)
    (directory / "README.md").write_text("added later")
    verify(directory, expected)


def test_flipped_bit_and_a_missing_file_are_named_together(directory: Path) -> None:
    expected = digests(directory)
    (directory / "a.bin").write_bytes(bytes([1, *range(1, 256)]))
    (directory / "sub" / "b.txt").unlink()
    with pytest.raises(
        CheckpointError, match=r"damaged: a\.bin has changed since it was written, sub/b\.txt is missing; fetch"
    ):
        verify(directory, expected)


def test_directory_in_place_of_a_file_counts_as_missing(directory: Path) -> None:
    expected = digests(directory)
    (directory / "a.bin").unlink()
    (directory / "a.bin").mkdir()
    with pytest.raises(CheckpointError, match=r"a\.bin is missing"):
        verify(directory, expected)


@pytest.mark.parametrize(
    "name",
    [
        "generation_config.json",
        "tokenizer.json",
        "added_tokens.json",
        "chat_template.jinja",
        "vocab.txt",
        "merges.txt",
        "config.yaml",
        "am.mvn",
        "seg_dict",
        "jieba_usr_dict",
        "tokens.txt",
        "bpe.model",
        "sub/x.json",
    ],
)
def test_unlisted_file_that_would_be_read_is_refused(name: str, directory: Path) -> None:
    expected = digests(directory)
    (directory / name).write_text("{}")
    with pytest.raises(SourceError, match=f"does not list {re.escape(name)}, which would be read"):
        check_listed(directory, expected)


@pytest.mark.parametrize("name", ["evil.safetensors", "model.safetensors.index.json", "model.pt", "model.bin"])
def test_other_weights_are_refused_unless_preferred_ones_are_listed(name: str, directory: Path) -> None:
    expected = digests(directory)
    (directory / name).write_bytes(b"x")
    with pytest.raises(SourceError, match="does not list"):
        check_listed(directory, expected)
    check_listed(directory, expected | {"model.safetensors": "0" * 64})


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "notes.txt", ".gitattributes", ".cache/x.json", "size.png"])
def test_unlisted_file_that_nothing_reads_is_accepted(name: str, directory: Path) -> None:
    expected = digests(directory)
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_text("x")
    check_listed(directory, expected)


def test_hub_description_is_accepted_unless_it_names_files(directory: Path) -> None:
    expected = digests(directory)
    path = directory / "configuration.json"
    path.write_text('{"framework": "pytorch", "task": "any"}')
    check_listed(directory, expected)
    path.write_text('{"file_path_metas": {"config": "other.yaml"}}')
    with pytest.raises(SourceError, match=r"does not list configuration\.json"):
        check_listed(directory, expected)


def test_error_names_some_of_many_files(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="and 1997 more; fetch") as caught:
        verify(directory, {f"f{number}": "0" * 64 for number in range(2000)})
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("files", ["{}", "[]", "null", '{"a": 1}', '"x"'])
def test_report_that_lists_no_files_is_damaged(files: str, tmp_path: Path) -> None:
    (tmp_path / "compression.json").write_text(f'{{"files": {files}}}')
    with pytest.raises(SourceError, match=r"compression\.json: damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_huge_sparse_file_is_not_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    expected = digests(tmp_path)
    verify(tmp_path, expected)
    os.truncate(tmp_path / name, 50_000_000_000)
    monkeypatch.setattr(manifest, "digest_of", lambda path: expected[path.name] if path.name != name else pytest.fail())
    with pytest.raises(CheckpointError, match=f"damaged: {re.escape(name)} has changed since it was written"):
        verify(tmp_path, expected)


@pytest.mark.parametrize(
    "start", [b"", b"\0" * 8, b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]", b"\x04" + b"\0" * 7 + b"null"]
)
def test_weights_with_an_invalid_header_count_as_changed(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(start)
    with pytest.raises(CheckpointError, match=r"model\.safetensors has changed since it was written"):
        verify(tmp_path, digests(tmp_path))


@pytest.mark.parametrize("large", [1, 10**9])
def test_files_are_verified_while_they_are_loaded(large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_LARGE", large)
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.arange(1000)}, path)
    (tmp_path / "config.yaml").write_text("model: Toy\n")
    expected = digests(tmp_path)
    with verified_meanwhile(tmp_path, expected):
        pass
    with pytest.raises(SourceError, match="the block's"), verified_meanwhile(tmp_path, expected):
        raise SourceError("the block's")
    save_file({"weight": torch.arange(1000).add(1)}, path)
    changed = r"damaged: model\.safetensors has changed"
    with pytest.raises(CheckpointError, match=changed), verified_meanwhile(tmp_path, expected):
        pass
    with pytest.raises(CheckpointError, match=changed), verified_meanwhile(tmp_path, expected):
        raise SourceError("what a damaged file leads to")


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
def test_nothing_is_loaded_from_files_that_are_seen_to_be_wrong_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_LARGE", 1)
    save_file({"weight": torch.arange(1000)}, tmp_path / "model.safetensors")
    (tmp_path / "config.yaml").write_text("model: Toy\n")
    expected = digests(tmp_path)
    content = (tmp_path / name).read_bytes()
    for damaged in (content[:-1], content + b"0"):
        (tmp_path / name).write_bytes(damaged)
        entered = []
        with pytest.raises(CheckpointError, match="damaged"), verified_meanwhile(tmp_path, expected):
            entered.append(name)
        assert not entered


@pytest.mark.parametrize("size", [0, 1, 8_000_000, 8_000_001, 16_000_001])
def test_digest_of_a_file_of_any_size_is_that_of_its_bytes(size: int, tmp_path: Path) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert manifest.digest_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
