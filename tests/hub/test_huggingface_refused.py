"""What the Hugging Face Hub refuses: one line says what, why and what to do, and holds no token."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.loopback.client import hasty
from hub.loopback.git import Blob, Repository
from hub.loopback.hugging_face import Account, HuggingFace
from hub.loopback.publishing import (
    ALICE,
    BOB,
    FILES,
    NAME,
    READER,
    at,
    files_of,
    open_hub,
    publish,
    uploads,
)
from hub.loopback.server import Loopback
from sottovoce.errors import PublishError
from sottovoce_hub import huggingface
from sottovoce_hub.destination import File

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


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "there is no token"),
        ("hf_wrong0secret", "the token is not accepted"),
        (READER, "the token may not write there"),
        (BOB, "the token may not write there"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_who_may_not_write_is_told_what_to_do(server, hub, token, words, exists):
    if exists:
        publish(server)
    with pytest.raises(PublishError, match=words) as caught:
        publish(server, {"config.json": b"[]"}, token=token)
    message = str(caught.value)
    assert message.startswith(f"{NAME}: ")
    assert "hf auth login" in message or "with write access" in message
    assert "\n" not in message
    assert "secret" not in message
    assert hub.repositories.get(NAME) is None or hub.repositories[NAME].files() == FILES


def test_the_tokens_usual_places_are_looked_in(server, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", ALICE)
    publish(server, token=None)
    assert hub.repositories[NAME].files() == FILES


@pytest.mark.parametrize("token", ["hf_two secret", "hf_line\nsecret", "hf_sécret", ""])
def test_what_is_no_token_is_not_sent_nor_told(server, token):
    with pytest.raises(PublishError, match="the token is not a token") as caught:
        at(server, token=token)
    assert "secret" not in str(caught.value)


def test_a_token_that_the_hub_repeats_is_not_told(server):
    for status in (403, 500):
        server.fail("refuse", "POST", "create", status=status, times=9, body={"error": f"no {ALICE}, no {BOB}"})
        with pytest.raises(PublishError) as caught:
            publish(server)
        printed = "".join(traceback.format_exception(caught.value))
        assert ALICE not in printed
        assert BOB not in printed
        assert "***" in str(caught.value)
        server.faults.clear()


def test_a_signed_address_is_not_told(server):
    server.fail("refuse", "PUT", "/store/", status=403, times=9)
    with pytest.raises(PublishError, match="model.safetensors|size.png") as caught:
        publish(server)
    assert "X-Amz" not in "".join(traceback.format_exception(caught.value))


def test_anothers_private_repository_is_a_name_clash(server, hub):
    hub.repositories[NAME] = Repository(name=NAME, private=True)
    hub.accounts[ALICE] = Account(name="alice2", organizations=())
    with pytest.raises(PublishError, match="may not write there"):
        publish(server)
    server.fail("refuse", "POST", "create", status=409, body={"error": "You already created this model repo"})
    with pytest.raises(PublishError, match="the name is taken .*; choose another name"):
        publish(server)


@pytest.mark.parametrize(
    "name", ["tiny", "a/b/c", "alice/ti ny", "alice/-tiny", "alice/tiny.git", "../tiny", "", "alice/"]
)
def test_what_cannot_be_a_repositorys_name_is_refused(server, name):
    with pytest.raises(PublishError, match="write owner/name"):
        at(server, name)
    assert not server.records


def test_gated_and_disabled_repositories(server, hub):
    publish(server)
    hub.repositories[NAME].disabled = True
    with pytest.raises(PublishError, match="the hub has disabled it; see its page"):
        publish(server)
    hub.repositories[NAME].disabled = False
    hub.repositories[NAME].gated = True
    with pytest.raises(PublishError, match="access to it is restricted; ask for access"):
        at(server, token=None).read("README.md")


def test_a_card_that_the_hub_refuses(server, hub):
    with pytest.raises(PublishError, match="the hub refuses the card: .*must be a mapping; correct its metadata"):
        publish(server, {**FILES, "README.md": b"---\n- a\n---\n"})
    assert hub.repositories[NAME].files() == {}
    assert not uploads(server.records)


def test_what_the_hub_remarks_about_a_card_is_passed_on(server, hub):
    hub.card_warnings = ["empty or missing yaml metadata"]
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        publish(server)
    assert hub.repositories[NAME].files() == FILES


def test_what_the_hub_remarks_is_cleaned(server, hub):
    hub.card_warnings = [f"\x1b[31mnot good, {ALICE}\x1b[0m"]
    with pytest.warns(UserWarning, match=r"not good, hf_\*\*\*") as caught:
        publish(server)
    assert all(str(each.message).isprintable() for each in caught)


def test_what_the_repositorys_gitignore_leaves_out_is_an_error(server, hub):
    publish(server, {".gitignore": b"config.json\n"})
    with pytest.raises(PublishError, match=r"config.json did not change .*\.gitignore"):
        publish(server)


def test_a_push_in_between_is_not_overwritten(server, hub):
    publish(server)
    destination = at(server)
    survey = destination.survey(files_of(FILES))
    hub.repositories[NAME].commit("main", {"theirs.txt": Blob(b"theirs")}, (), "Theirs")
    with pytest.raises(PublishError, match="something was pushed to it meanwhile .*; look at what changed"):
        destination.commit([File.of("config.json", b"{}")], (), "Ours")
    assert survey.names
    assert hub.repositories[NAME].files() == {**FILES, "theirs.txt": b"theirs"}


def test_no_network(server):
    address = server.address
    destination = huggingface.HuggingFace(NAME, token=ALICE, endpoint="http://127.0.0.1:9")
    with pytest.raises(PublishError, match=r"the hub cannot be reached \(.*\); check the network"):
        destination.survey([])
    assert address


def test_offline_is_honoured(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for act in (lambda: publish(server), lambda: at(server).survey([]), lambda: at(server).read("README.md")):
        with pytest.raises(PublishError, match="the network is forbidden; unset HF_HUB_OFFLINE"):
            act()
    assert not server.records
