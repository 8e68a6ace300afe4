"""Hubs that mean harm: what they answer is neither shown as it came, nor made into paths."""

from __future__ import annotations

import io
import json
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.toy import make_host
from hub.published import make_small
from hub.running import HUBS, NAME, Hub, run
from sottovoce.errors import CheckpointError, SottovoceError, SourceError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BOTH = {"hf": "/api/models/", "modelscope": "/api/v1/models/"}
WEIGHTS = r"model\.safetensors"
OUTSIDE = ("/{}/evil", "../../../../../evil", "..", ".", "a/b", "x\x7fy", "~/evil", "")
LONGEST = 700
"""Characters of any error, the advice in it included."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("compressed") / "small")


@pytest.fixture(params=HUBS)
def hub(request: pytest.FixtureRequest, small: Path, tmp_path: Path) -> Iterator[Hub]:
    with run(request.param, tmp_path / "hub", small) as running:
        yield running


@pytest.fixture
def hugging_face(small: Path, tmp_path: Path) -> Iterator[Hub]:
    with run("hf", tmp_path / "hub", small) as running:
        yield running


def load(hub: Hub) -> Any:
    return sottovoce.load(NAME, hub=hub.kind, token=hub.token, cache_dir=hub.home / "cache", host=make_host())


@pytest.mark.parametrize("verb", ["pull", "load", "push"])
@pytest.mark.parametrize("status", [401, pytest.param(404, marks=pytest.mark.slow), 400])
@pytest.mark.parametrize("form", ["whole", "cut", "coloured", "hidden", "cookie"])
def test_what_a_hub_repeats_of_the_token_is_not_shown(hub: Hub, small: Path, verb: str, status: int, form: str) -> None:
    token = hub.token
    said = {
        "whole": f"bad Authorization: Bearer {token}",
        "cut": f"bad Bearer {token[:-3]}...",
        "coloured": f"\x1b[31mbad {token[:6]}\x1b[0m{token[6:]}\x1b]0;title\x07",
        "hidden": "bad " + "\u200b".join(token),
        "cookie": f"Cookie: m_session_id={token}\r\nX: \x00\x08",
    }[form]
    body = {"error": said, "Message": said, "message": said, "Code": status}
    head = said.encode("ascii", "backslashreplace").decode()
    headers = {"X-Error-Message": head} if head.isprintable() else {}
    hub.server.fail("refuse", "", BOTH[hub.kind], status=status, body=body, headers=headers, times=1000)
    act = {"pull": hub.pull, "load": lambda: load(hub), "push": lambda: hub.push(small)}[verb]
    with pytest.raises(SottovoceError) as caught:
        act()
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) <= LONGEST
    printed = "".join(traceback.format_exception(caught.value))
    for text in (message, printed):
        assert token not in text
        assert token[:-3] not in text
        assert token[4:] not in text
        assert "\x1b" not in text


def test_what_a_hub_repeats_of_the_token_is_not_logged(hub: Hub) -> None:
    said = f"\x1b[31mbad Bearer {hub.token}\x1b[0m"
    body = {"error": said, "Message": said, "Code": 400}
    warning = {"X-HF-Warning": f"topic; bad Bearer {hub.token}"}
    hub.server.fail("refuse", "", WEIGHTS, status=400, body=body, headers=warning, times=1000)
    logger = logging.getLogger("huggingface_hub" if hub.kind == "hf" else "modelscope_hub")
    logger.addHandler(handler := logging.StreamHandler(io.StringIO()))
    try:
        with pytest.raises(SourceError):
            hub.pull()
    finally:
        logger.removeHandler(handler)
    logged = handler.stream.getvalue()
    assert "bad" in logged
    assert hub.token not in logged
    assert "\x1b" not in logged


def test_a_listing_without_end_is_left(hugging_face: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.network.huggingface._PAGES", 20)
    next_page = {"Link": f'<{hugging_face.server.address}/api/models/{NAME}/tree/main?cursor=x>; rel="next"'}
    hugging_face.server.fail("refuse", "GET", "/tree/", status=200, body=[], headers=next_page, times=1000)
    with pytest.raises(SourceError, match="lists more than 20 pages of files, which no model has"):
        hugging_face.pull()


def names_outside(home: Path) -> list[str]:
    return [name.format(home) for name in OUTSIDE]


def check_nothing_outside(hub: Hub) -> None:
    outside = [path for path in hub.home.rglob("*") if "evil" in path.name]
    outside += [path for path in hub.home.parent.rglob("*evil*")]
    assert outside == []
    assert not (hub.home / "pulled").exists()


@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("number", range(len(OUTSIDE)))
def test_a_header_that_would_be_a_path_stores_nothing(hugging_face: Hub, header: str, number: int) -> None:
    value = names_outside(hugging_face.home)[number]
    headers = {"ETag": '"aa"', "X-Repo-Commit": "a" * 40, header: f'"{value}"' if header == "ETag" else value}
    hugging_face.server.fail("refuse", "HEAD", "/resolve/", status=200, headers=headers, body=b"x", times=1000)
    with pytest.raises(
        SourceError, match=rf"the header {header} .* is not a valid digest|could not be fetched"
    ) as caught:
        hugging_face.pull()
    assert str(caught.value).isprintable()
    check_nothing_outside(hugging_face)


@pytest.mark.parametrize("number", range(len(OUTSIDE)))
def test_a_commit_that_would_be_a_path_stores_nothing(hugging_face: Hub, number: int) -> None:
    form = {"id": NAME, "sha": names_outside(hugging_face.home)[number], "siblings": [], "tags": []}
    hugging_face.server.fail(
        "refuse", "GET", r"/api/models/alice/toy(/revision/main)?$", status=200, body=form, times=9
    )
    with pytest.raises(SourceError, match=r"sha .* is not a valid digest"):
        hugging_face.pull()
    check_nothing_outside(hugging_face)


@pytest.mark.parametrize("number", range(len(OUTSIDE)))
def test_a_digest_in_a_listing_that_would_be_a_path_stores_nothing(hugging_face: Hub, number: int) -> None:
    oid = names_outside(hugging_face.home)[number]
    entry = {"type": "file", "path": "config.yaml", "size": 1, "oid": "a" * 40, "xetHash": "b" * 64}
    listing = [entry | {"lfs": {"oid": oid, "size": 1, "pointerSize": 1}}]
    hugging_face.server.fail("refuse", "GET", "/tree/", status=200, body=listing, times=9)
    with pytest.raises(SourceError, match=r"lfs.oid .* is not a valid digest"):
        hugging_face.pull()
    check_nothing_outside(hugging_face)


@pytest.mark.parametrize("number", range(len(OUTSIDE)))
def test_modelscopes_commit_that_would_be_a_path_stores_nothing(small: Path, tmp_path: Path, number: int) -> None:
    with run("modelscope", tmp_path / "hub", small) as hub:
        files = [{"Path": "config.yaml", "Name": "config.yaml", "Type": "blob", "Size": 1, "Sha256": "a" * 64,
                  "Revision": names_outside(hub.home)[number], "CommittedDate": 1}]  # fmt: skip
        form = {"Code": 200, "Success": True, "Data": {"Files": files}}
        hub.server.fail("refuse", "GET", "/repo/files", status=200, body=form, times=9)
        with pytest.raises(SourceError, match=r"it does not say which commit 'master' is"):
            hub.pull()
        check_nothing_outside(hub)


def test_a_note_of_a_commit_that_is_none_is_not_followed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run("modelscope", tmp_path / "hub", small) as hub:
        hub.pull()
        [pin] = hub.home.rglob("refs/master")
        pin.write_text("../../../../evil")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(SourceError, match="does not hold a commit's id; remove it"):
            hub.pull(overwrite=True)


@pytest.mark.parametrize("revision", ["../../x", "/etc", "..", "a..b", "a\nb", "a b", "-x", "~root", "a" * 1000])
def test_a_revision_that_is_no_name_of_one_is_wrong_use(hub: Hub, revision: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name of a branch, a tag or a commit") as caught:
        hub.pull(revision=revision)
    assert len(str(caught.value)) < LONGEST
    assert not hub.server.records


def with_digests(small: Path, digests: dict[str, str]) -> bytes:
    form = json.loads((small / "compression.json").read_text(encoding="utf-8"))
    form["files"] |= digests
    return json.dumps(form).encode()


@pytest.mark.parametrize("act", ["pull", "load"])
def test_a_digest_of_a_directory_is_damage(hub: Hub, small: Path, act: str) -> None:
    hub.add({"compression.json": with_digests(small, {"card": "0" * 64}), "card/notes.json": b"{}"})
    with pytest.raises(CheckpointError, match="damaged: card is missing"):
        hub.pull() if act == "pull" else load(hub)


def test_many_damaged_files_are_told_in_a_line_that_can_be_read(hub: Hub, small: Path) -> None:
    names = [f"missing-{number}" for number in range(1000)]
    hub.add({"compression.json": with_digests(small, dict.fromkeys(names, "0" * 64))})
    with pytest.raises(SourceError, match="missing-4 is missing and 995 more; .* tell its publisher") as caught:
        hub.pull()
    assert len(str(caught.value)) < LONGEST


def test_a_digest_of_a_name_of_any_length_is_told_in_a_line_that_can_be_read(hub: Hub, small: Path) -> None:
    hub.add({"compression.json": with_digests(small, {"x" * 100_000: "0" * 64})})
    with pytest.raises(SourceError, match="xxx") as caught:
        hub.pull()
    assert len(str(caught.value)) < LONGEST
