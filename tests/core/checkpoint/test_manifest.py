"""What was written is what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sottovoce.checkpoint import digests, verify
from sottovoce.errors import CheckpointError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(range(256)))
    (tmp_path / "sub" / "b.txt").write_text("b")
    return tmp_path


def test_every_file_is_counted_by_its_relative_path(directory: Path) -> None:
    assert digests(directory) == {
        "a.bin": hashlib.sha256(bytes(range(256))).hexdigest(),
        "sub/b.txt": hashlib.sha256(b"b").hexdigest(),
    }


def test_what_is_untouched_is_accepted(directory: Path) -> None:
    verify(directory, digests(directory))


def test_a_file_more_is_no_damage(directory: Path) -> None:
    expected = digests(directory)
    (directory / "README.md").write_text("added later")
    verify(directory, expected)


def test_a_flipped_bit_and_a_missing_file_are_named_together(directory: Path) -> None:
    expected = digests(directory)
    (directory / "a.bin").write_bytes(bytes([1, *range(1, 256)]))
    (directory / "sub" / "b.txt").unlink()
    with pytest.raises(CheckpointError, match=r"damaged: a\.bin is not what was written, sub/b\.txt is missing; fetch"):
        verify(directory, expected)


def test_a_directory_in_place_of_a_file_is_missing(directory: Path) -> None:
    expected = digests(directory)
    (directory / "a.bin").unlink()
    (directory / "a.bin").mkdir()
    with pytest.raises(CheckpointError, match=r"a\.bin is missing"):
        verify(directory, expected)
