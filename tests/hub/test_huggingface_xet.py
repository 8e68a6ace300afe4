"""Publishing by way of the Hugging Face Hub's chunked store, as its client does when nothing is said."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hub.loopback.client import python
from hub.loopback.hugging_face import HuggingFace
from hub.loopback.publishing import ALICE, FILES, NAME, open_hub
from hub.loopback.server import Loopback

CONTENTS = {**FILES, "long.bin": os.urandom(300_000), "dull.bin": bytes(range(64)) * 5000 + b"\0\1\2"}
PUSH = f"""
import sys
from pathlib import Path
from sottovoce.errors import PublishError
from sottovoce_hub.attendance import Attended
from sottovoce_hub.destination import File
from sottovoce_hub.huggingface import HuggingFace
root = Path(MODEL)
files = [File.of(path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file()]
destination = Attended(HuggingFace({NAME!r}))
try:
    destination.create(None)
    destination.commit(files, (), "Publish tiny")
    assert destination.survey(files).unchanged == {{file.name for file in files}}
except PublishError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def served() -> Iterator[tuple[Loopback, HuggingFace]]:
    with open_hub() as running:
        yield running


def push(server: Loopback, home: Path, contents: Mapping[str, bytes] = CONTENTS, **variables: str) -> str:
    """Push from a process of its own; its error, or nothing."""
    for name, content in contents.items():
        (home / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "model" / name).write_bytes(content)
    code = PUSH.replace("MODEL", repr(str(home / "model")))
    done = python(code, server, home / "hub", HF_TOKEN=ALICE, HF_HUB_DISABLE_XET="0", **variables)
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr.strip()


def test_the_same_files_arrive(served, tmp_path):
    server, hub = served
    assert push(server, tmp_path) == ""
    assert hub.repositories[NAME].files() == CONTENTS
    assert server.recorded("POST", "^/cas/v1/xorbs/")
    assert not server.recorded("PUT")


def test_an_interrupted_upload_is_not_sent_again(served, tmp_path):
    server, hub = served
    # Chunks of several files come together in any order, and make another xorb every time.
    one = {"long.bin": CONTENTS["long.bin"]}
    server.fail("cut before", "POST", "/shards", times=1000)
    error = push(server, tmp_path, one)
    assert error.startswith(f"{NAME}: cannot be published on the Hugging Face Hub: the hub cannot be reached")
    assert "\n" not in error
    assert hub.repositories[NAME].files() == {}
    sent = len(server.recorded("POST", "^/cas/v1/xorbs/"))
    server.faults.clear()
    assert push(server, tmp_path, one) == ""
    assert hub.repositories[NAME].files() == one
    assert len(server.recorded("POST", "^/cas/v1/xorbs/")) == sent > 0


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/xet-write-token/", 403, "the token may not write there"),
        ("/cas/v1/xorbs/", 503, "the hub is in trouble (503)"),
    ],
)
def test_refusals_are_told_as_any_other(served, tmp_path, path, status, words):
    server, _ = served
    server.fail("refuse", "", path, status=status, times=1000)
    error = push(server, tmp_path)
    assert words in error
    assert "secret" not in error
    assert len(server.recorded("", path)) <= 3


def test_a_chunk_that_is_damaged_on_its_way_is_not_published(served, tmp_path):
    server, hub = served
    server.fail("spoil", "POST", "/cas/v1/xorbs/")
    assert push(server, tmp_path)
    assert hub.repositories[NAME].files() == {}


@pytest.mark.parametrize("how", ["silent", "drip head"])
def test_a_store_that_hangs_is_left(served, tmp_path, how):
    server, hub = served
    server.fail(how, "POST", "/cas/v1/xorbs/", times=1000)
    start = time.monotonic()
    assert "it sent almost nothing for 0.5 s" in push(server, tmp_path, SOTTOVOCE_HUB_TIMEOUT="0.5")
    assert time.monotonic() - start < 30
    assert hub.repositories[NAME].files() == {}
    server.faults.clear()
    assert push(server, tmp_path) == ""
