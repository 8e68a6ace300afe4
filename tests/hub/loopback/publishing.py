"""Pushing a small model to a Hugging Face Hub on the loopback interface."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hub.loopback.hugging_face import Account, HuggingFace, hugging_face
from hub.loopback.server import Loopback, Record
from sottovoce_hub import huggingface
from sottovoce_hub.destination import Commit, File

ALICE, BOB, READER = "hf_alice0secret", "hf_bob000secret", "hf_reader0secret"
NAME = "alice/tiny-int8"
FILES = {
    "README.md": b"---\nlibrary_name: funasr\n---\n# tiny\n",
    "config.json": b'{"model_type": "tiny"}',
    "model.safetensors": os.urandom(5000),
    "assets/size.png": b"\x89PNG\r\n\x1a\n\0" + os.urandom(700),
    "empty.txt": b"",
}
LARGE = ("model.safetensors", "assets/size.png")


@contextmanager
def open_hub() -> Iterator[tuple[Loopback, HuggingFace]]:
    """A hub that knows three tokens."""
    accounts = {
        ALICE: Account(name="alice", organizations=("speech",)),
        BOB: Account(name="bob"),
        READER: Account(name="alice", read_only=True),
    }
    with hugging_face(**accounts) as running:
        yield running


def at(server: Loopback, name: str = NAME, token: str | None = ALICE, **more) -> huggingface.HuggingFace:
    return huggingface.HuggingFace(name, token=token, endpoint=server.address, **more)


def files_of(contents: Mapping[str, bytes | Path]) -> list[File]:
    return [File.of(name, content) for name, content in contents.items()]


def publish(
    server: Loopback,
    contents: Mapping[str, bytes | Path] = FILES,
    *,
    deletions: tuple[str, ...] = (),
    private: bool | None = None,
    create_pr: bool = False,
    **more,
) -> Commit | None:
    """What a push does; ``None`` when there was nothing to do."""
    destination = at(server, **more)
    if not create_pr:
        destination.create(private)
    files = files_of(contents)
    survey = destination.survey(files)
    additions = [file for file in files if file.name not in survey.unchanged]
    outdated = [name for name in deletions if name in survey.names]
    if not additions and not outdated:
        return None
    return destination.commit(additions, outdated, "Publish tiny", create_pr=create_pr)


def uploads(records: Sequence[Record]) -> list[str]:
    """The sha256 of every large file that was received whole, in order."""
    sizes = {sha256(content): len(content) for content in FILES.values()}
    puts = [record for record in records if record.method == "PUT"]
    named = [(re.search(r"/([0-9a-f]{64})", record.target)[1], record) for record in puts]
    return [name for name, record in named if record.received == sizes.get(name, record.received)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
