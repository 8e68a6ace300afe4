"""A directory that a hub's client fetched tells where from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sottovoce.checkpoint.downloaded import downloaded_from
from sottovoce.source import Repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def made(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / f".{name}").write_text(text, encoding="utf-8")
    return path


def test_snapshot_of_huggingface_hub_tells_repository_and_revision(tmp_path: Path) -> None:
    snapshot = made(tmp_path / "models--Qwen--Qwen3-ForcedAligner-0.6B" / "snapshots" / COMMIT)
    expected = Repository(id="Qwen/Qwen3-ForcedAligner-0.6B", hub="hf", revision=COMMIT)
    assert downloaded_from(snapshot) == expected


@pytest.mark.parametrize(("note", "revision"), [("Revision:v2.0.4,CreatedAt:1690000000", "v2.0.4"), ("?", None)])
def test_directory_of_modelscope_tells_repository_and_revision(tmp_path: Path, note: str, revision: str | None) -> None:
    directory = made(tmp_path / "iic" / "paraformer-large", mv=note, msc="")
    assert downloaded_from(directory) == Repository(id="iic/paraformer-large", hub="modelscope", revision=revision)


def test_dot_in_a_name_comes_back(tmp_path: Path) -> None:
    directory = made(tmp_path / "Qwen" / "Qwen3-ForcedAligner-0___6B", msc="")
    found = downloaded_from(directory)
    assert found is not None
    assert found.id == "Qwen/Qwen3-ForcedAligner-0.6B"


def test_other_directories_tell_nothing(tmp_path: Path) -> None:
    assert downloaded_from(made(tmp_path / "mine")) is None
    assert downloaded_from(made(tmp_path / "models--a--b" / "snapshots" / "main")) is None
    assert downloaded_from(made(tmp_path / "models--a" / "snapshots" / COMMIT)) is None
    assert downloaded_from(tmp_path / "missing") is None
