"""Trouble on the way to the Hugging Face Hub: what passes is waited for, what stays is made good later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hub.loopback.client import hasty
from hub.loopback.git import Repository
from hub.loopback.hugging_face import Account, HuggingFace, hugging_face
from hub.loopback.publishing import (
    ALICE,
    FILES,
    LARGE,
    NAME,
    at,
    files_of,
    open_hub,
    publish,
    sha256,
    uploads,
)
from hub.loopback.server import How, Loopback
from sottovoce.errors import PublishError
from sottovoce_hub import huggingface_errors

# The client hands large files to its HTTP library in a way that the library gives up.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(autouse=True)
def client(tmp_path: Path) -> Iterator[None]:
    with hasty(tmp_path):
        yield


@pytest.fixture
def served() -> Iterator[tuple[Loopback, HuggingFace]]:
    with open_hub() as running:
        yield running


@pytest.fixture
def server(served: tuple[Loopback, HuggingFace]) -> Loopback:
    return served[0]


@pytest.fixture
def hub(served: tuple[Loopback, HuggingFace]) -> HuggingFace:
    return served[1]


def test_a_damaged_upload_is_refused_and_the_next_push_mends_it(server, hub):
    server.fail("spoil", "PUT", "/store/")
    with pytest.raises(PublishError, match=r"(model.safetensors|assets/size.png).*BadDigest.*run it again"):
        publish(server)
    assert hub.repositories[NAME].files() == {}
    publish(server)
    assert hub.repositories[NAME].files() == FILES


def test_an_object_that_is_lost_is_not_committed(server, hub):
    server.fail("refuse", "PUT", "/store/", status=200, times=2)
    server.fail("refuse", "POST", "/lfs/verify/", status=200, times=2)
    with pytest.raises(PublishError, match="LFS pointer pointed to a file that does not exist"):
        publish(server)
    assert hub.repositories[NAME].files() == {}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_trouble_that_passes_is_waited_for(server, hub, status, monkeypatch):
    publish(server, {"config.json": b"{}"})
    paths = {record.target.partition("?")[0] for record in server.records}
    for path in sorted(paths) + ["/store/"]:
        server.fail("refuse", "", f"{re.escape(path)}", status=status, headers={"Retry-After": "7"})
    waited = []
    monkeypatch.setattr(huggingface_errors, "time", SimpleNamespace(sleep=waited.append))
    publish(server)
    assert hub.repositories[NAME].files() == FILES
    assert waited
    assert set(waited) == {7}
    assert len(hub.repositories[NAME].commits) == 3


def test_trouble_that_stays_is_an_error(server, hub):
    server.fail("refuse", "POST", "/commit/", status=503, times=100)
    with pytest.raises(PublishError, match=r"the hub is in trouble \(503\); wait a little and run it again"):
        publish(server)
    assert len(server.recorded("POST", "/commit/")) == huggingface_errors.ATTEMPTS
    server.faults.clear()
    server.fail("refuse", "GET", "/api/models/", status=429, times=100)
    with pytest.raises(PublishError, match="too many requests; wait a few minutes"):
        publish(server)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 1),
        (429, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "100000"}, huggingface_errors.LONGEST_WAIT),
        (429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 1),
        (429, {"RateLimit": '"api";r=0;t=55'}, 55),
        (503, {"RateLimit": '"api";r=400;t=55'}, 1),
    ],
)
def test_the_hub_says_how_long_to_wait_but_no_longer_than_a_minute(server, monkeypatch, status, headers, seconds):
    waited = []
    monkeypatch.setattr(huggingface_errors, "time", SimpleNamespace(sleep=waited.append))
    server.fail("refuse", "POST", "create", status=status, headers=headers)
    publish(server)
    assert waited == [seconds]


def interrupted(server: Loopback, hub: HuggingFace, **more) -> int:
    """Push until it goes through; how often it failed."""
    had: set[str] = set()
    mark = 0
    for failures in range(5):
        try:
            publish(server, **more)
        except PublishError as error:
            assert "\n" not in str(error)
            server.faults.clear()
            had, mark = set(hub.repositories[NAME].objects) if NAME in hub.repositories else set(), len(server.records)
        else:
            assert not had.intersection(uploads(server.records[mark:]))
            return failures
    raise AssertionError("it never went through")


@pytest.mark.parametrize("create_pr", [False, True], ids=["commit", "pull request"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("how", ["cut before", "cut during", "cut after", "cut answer"])
def test_a_cut_at_any_request_is_made_good_by_pushing_again(how: How, lasting: bool, create_pr: bool):
    """One cut is not even noticed; when all that follows is cut, the push fails and the next one ends it."""
    position, requests = -1, 1
    while position < requests:
        with hugging_face(**{ALICE: Account(name="alice")}) as (server, hub):
            if create_pr:
                hub.repositories[NAME] = Repository(name=NAME)
            if position >= 0:
                server.fail(how, after=position, times=1000 if lasting else 1)
            failures = interrupted(server, hub, create_pr=create_pr)
            assert failures == (lasting and 0 <= position < requests)
            check_end(server, hub, create_pr)
            requests = len(server.records) if position < 0 else requests
        position += 1
    assert requests >= 11


def check_end(server: Loopback, hub: HuggingFace, create_pr: bool) -> None:
    """The right files, by one commit, and nothing uploaded again but what the hub never said to have."""
    repository = hub.repositories[NAME]
    assert repository.files("refs/pr/1" if create_pr else "main") == FILES
    assert len(repository.commits) == 2
    assert len(repository.pull_requests) == create_pr
    sent = uploads(server.records)
    assert set(sent) == {sha256(FILES[name]) for name in LARGE}
    assert len(sent) <= len(LARGE) + len(uploads([record for record in server.records if record.status is None]))


def test_a_download_that_is_cut_goes_on_where_it_was(server, hub, tmp_path, monkeypatch):
    from huggingface_hub import HfApi

    publish(server)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    server.fail("cut answer", "GET", "/store/")
    directory = HfApi(endpoint=server.address, token=ALICE).snapshot_download(NAME, cache_dir=tmp_path)
    assert (Path(directory) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert 206 in {record.status for record in server.recorded("GET", "/store/")}


def test_a_file_that_is_gone_or_closed_is_not_the_networks_fault(server, hub, tmp_path):
    (tmp_path / "config.json").write_bytes(b"{}")
    destination, files = at(server), files_of({"config.json": tmp_path / "config.json"})
    destination.create(None)
    (tmp_path / "config.json").unlink()
    with pytest.raises(PublishError, match="config.json' is not a file"):
        destination.commit(files, (), "Publish")
    assert hub.repositories[NAME].files() == {}
