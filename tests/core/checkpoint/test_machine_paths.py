"""Paths of a machine are found wherever they stand, and words are not taken for paths."""

from __future__ import annotations

import json
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.checkpoint.machine_paths import find_path, machine_roots

ROOTS = ("/home/ann", "/mnt/data set/models", "/tmp", "/root", r"C:\Users\ann", r"D:\work")


@pytest.mark.parametrize(
    "path",
    [
        "/home/ann/base/am.mvn",
        "/home/ann",
        "/mnt/data set/models",
        "/tmp/x1/model",
        "/root/m",
        r"C:\Users\ann\m",
        r"D:\work\train.jsonl",
        "D:/work/x",
        r"\\server\share\model",
        "/anywhere/else",
        "~/models",
        "file:///home/x",
        "/Users/bob/model.pt",
    ],
)
@pytest.mark.parametrize("form", ["a.json", "a.yaml"])
def test_machine_path_is_found_with_its_key(path: str, form: str) -> None:
    content = {"a": 1, "deep": {"list": [{"key": path}]}}
    text = json.dumps(content) if form == "a.json" else yaml.safe_dump(content)
    assert find_path(form, text.encode(), ROOTS) == ("deep.list.0.key", path)


@pytest.mark.parametrize("text", ["python /home/ann/train.py", "see '/home/bob/x'", r"open C:\Users\bob\x now"])
def test_machine_path_in_a_sentence_is_found(text: str) -> None:
    assert find_path("a.json", json.dumps({"command": text}).encode(), ROOTS) is not None


@pytest.mark.parametrize("name", ["LICENSE", "notes.txt", "am.mvn", "README.md", "broken.json"])
def test_text_is_searched_for_the_users_directories(name: str) -> None:
    assert find_path(name, b"{ a line\nmade in /home/ann/x, say", ROOTS) == ("line 2", "/home/ann/x,")
    assert find_path(name, rb"{ C:\\Users\\ann\\x", ROOTS) is not None


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "tokens.json", "merges.txt", "added_tokens.json"])
def test_vocabulary_entries_are_not_paths(name: str) -> None:
    words = ["/tmp", "/tmp/x", "/home/user", "/usr/local", "C:\\Users\\", "~/", "/root/x", "/a/b"]
    assert find_path(name, json.dumps(words).encode(), ROOTS) is None
    assert find_path(name, json.dumps([*words, "/home/ann/tokens.json"]).encode(), ROOTS) is not None


@pytest.mark.parametrize(
    "value",
    [
        "owner/name",
        "/",
        "</s>",
        "re:encoder/.*",
        "12/24",
        "a/tmp/b",
        "https://example.org/home/ann-x/a",
        "/s",
        "and/or",
        "km/h",
        "text\n/a/b",
        "C: drive",
        "{{ '/no_think' }}",
    ],
)
def test_ordinary_values_are_not_paths(value: str) -> None:
    assert find_path("config.json", json.dumps({"key": value}).encode(), ROOTS) is None


def test_binary_files_are_not_searched() -> None:
    for name in ("model.safetensors", "card/a.png", "model.onnx", "bpe.model"):
        assert find_path(name, b"/home/ann/x", ROOTS) is None
    assert find_path("other", b"\xff\x00/home/ann/x", ROOTS) is None


@given(st.lists(st.text(string.ascii_letters + string.digits + "-_ ", min_size=1), min_size=2, max_size=5))
def test_every_absolute_path_value_is_found(parts: list[str]) -> None:
    for path in ("/" + "/".join(parts), "X:\\" + "\\".join(parts)):
        assert find_path("config.json", json.dumps({"key": path}).encode(), ()) == ("key", path)


def test_machine_roots_exclude_the_root_of_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert "/" not in machine_roots()
