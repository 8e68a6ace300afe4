"""What goes up is what was written with the model, and nothing that does not belong there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hub.published import make_small
from sottovoce.errors import PublishError, SourceError, UsageError
from sottovoce_hub.files import read_contents

WRITTEN = {"LICENSE", "compression.json", "config.yaml", "model.safetensors"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make_small(tmp_path / "small")


def add(directory: Path, name: str, content: bytes) -> None:
    """Put a file among those that were written with the model."""
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)
    form = json.loads((directory / "compression.json").read_text(encoding="utf-8"))
    form["files"][name] = hashlib.sha256(content).hexdigest()
    (directory / "compression.json").write_text(json.dumps(form), encoding="utf-8")


def test_files_with_sizes_and_digests(small: Path) -> None:
    contents = read_contents(small)
    assert {file.name for file in contents.files} == WRITTEN
    assert contents.left_out == ()
    for file in contents.files:
        content = (small / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    "stray", [".env", ".cache/x", "token.txt", "README.md", "notes/draft.md", ".git/config", "__pycache__/a.pyc"]
)
def test_what_else_lies_there_stays(small: Path, stray: str) -> None:
    (small / stray).parent.mkdir(parents=True, exist_ok=True)
    (small / stray).write_text("hf_" + "a" * 34, encoding="utf-8")
    contents = read_contents(small)
    assert {file.name for file in contents.files} == WRITTEN
    assert contents.left_out == (stray,)


def test_a_flipped_bit_is_not_published(small: Path) -> None:
    path = small / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (small / "LICENSE").unlink()
    with pytest.raises(PublishError, match=r"LICENSE is missing, model.safetensors has changed since it was written"):
        read_contents(small)


def test_only_what_sottovoce_wrote(small: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / ".toy-0", small / "model.safetensors"):
        with pytest.raises(UsageError, match=r"there is no compression.json"):
            read_contents(path)
    (small / "compression.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SourceError, match="damaged"):
        read_contents(small)


@pytest.mark.parametrize("name", ["modeling.py", "weights.pt", "pytorch_model.bin", "a/b.PKL", "run.sh"])
def test_code_and_pickles_are_refused(small: Path, name: str) -> None:
    add(small, name, b"anything")
    with pytest.raises(PublishError, match=rf"{name} is a (program|pickle), which could run where it is loaded"):
        read_contents(small)


@pytest.mark.parametrize("name", [".env", ".ssh/id", "a/.hidden/b.json"])
def test_hidden_files_are_refused(small: Path, name: str) -> None:
    add(small, name, b"anything")
    with pytest.raises(PublishError, match="is a hidden file"):
        read_contents(small)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "a/../../b"])
def test_names_that_leave_the_directory_are_refused(small: Path, name: str) -> None:
    form = json.loads((small / "compression.json").read_text(encoding="utf-8"))
    form["files"][name] = "0" * 64
    (small / "compression.json").write_text(json.dumps(form), encoding="utf-8")
    with pytest.raises(SourceError, match="leaves the model's directory"):
        read_contents(small)


def test_a_secret_is_told_with_file_and_line_and_is_not_repeated(small: Path) -> None:
    secret = "hf_" + "aB3" * 12
    add(small, "notes.json", json.dumps({"a": 1, "key": secret}, indent=1).encode())
    with pytest.raises(PublishError, match="notes.json, line 3, holds a Hugging Face token; take it out") as caught:
        read_contents(small)
    assert secret not in str(caught.value)


def test_the_users_own_token_is_found_whatever_it_looks_like(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    add(small, "config.json", b'{"token": "correct-horse-battery"}')
    with pytest.raises(PublishError, match="config.json, line 1, holds your own token"):
        read_contents(small)


def test_ordinary_words_are_no_secrets(small: Path) -> None:
    add(
        small,
        "vocabulary.json",
        b'["hf_", "ms-", "sk-", "AKIA", "BEGIN PRIVATE KEY", "hf_hub", "risk-takers-all-over-the-world-unite"]',
    )
    assert "vocabulary.json" in {file.name for file in read_contents(small).files}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.json", json.dumps({"train": {"list": "/data/speech/train.jsonl"}})),
        ("notes.yaml", "output_dir: C:\\Users\\ann\\exp\n"),
        ("notes.txt", f"made in {Path.home()}/exp\n"),
    ],
)
def test_paths_of_a_machine_are_refused_with_file_and_place(small: Path, name: str, content: str) -> None:
    add(small, name, content.encode())
    with pytest.raises(
        PublishError, match=rf"not published: {name}: (train\.list|output_dir|line 1) holds '.*, a path of"
    ):
        read_contents(small)
