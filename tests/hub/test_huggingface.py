"""Publishing on the Hugging Face Hub: its real client, against a hub on the loopback interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.loopback.client import hasty
from hub.loopback.hugging_face import HuggingFace
from hub.loopback.publishing import (
    ALICE,
    BOB,
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
from hub.loopback.server import Loopback
from sottovoce.errors import PublishError
from sottovoce_hub.destination import Commit, File, Survey

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


def test_a_fresh_push_is_one_commit_that_holds_exactly_what_it_was_given(server, hub):
    commit = publish(server)
    repository = hub.repositories[NAME]
    assert repository.files() == FILES
    assert [made.title for made in repository.history()] == ["Publish tiny", "initial commit"]
    assert commit == Commit(url=f"{server.address}/{NAME}", revision=repository.refs["main"])
    assert {name for name, blob in repository.find("main").files.items() if blob.large} == set(LARGE)
    assert not repository.private


def test_the_client_says_who_it_is(server):
    seen = []
    application = server.application
    server.application = lambda request: (seen.append(request.headers["User-Agent"]), application(request))[1]
    publish(server)
    assert all(
        "sottovoce/" in agent
        for agent, record in zip(seen, server.records, strict=True)
        if "/store/" not in record.target and "/lfs/" not in record.target
    )


def test_files_are_read_from_disk(server, hub, tmp_path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes(FILES[name])
    contents = {name: tmp_path / name for name in ("model.safetensors", "config.json")}
    publish(server, contents)
    assert hub.repositories[NAME].files() == {name: FILES[name] for name in contents}
    assert publish(server, contents) is None


def test_a_second_push_sends_nothing(server, hub):
    publish(server)
    before = len(server.records)
    assert publish(server) is None
    assert {record.method for record in server.records[before:]} == {"GET"}
    assert len(hub.repositories[NAME].commits) == 2


def test_only_what_changed_goes_up(server, hub):
    publish(server)
    before, changed = len(server.records), {**FILES, "config.json": b"{}", "assets/size.png": b"\0" + os.urandom(900)}
    publish(server, changed)
    assert hub.repositories[NAME].files() == changed
    assert uploads(server.records[before:]) == [sha256(changed["assets/size.png"])]


def test_deletions_are_part_of_the_commit(server, hub):
    publish(server)
    kept = {name: content for name, content in FILES.items() if name != "config.json"} | {"new.txt": b"new"}
    publish(server, kept, deletions=("config.json",))
    assert hub.repositories[NAME].files() == kept
    assert len(hub.repositories[NAME].commits) == 3
    publish(server, kept, deletions=("new.txt", "never.txt"))
    assert "new.txt" not in hub.repositories[NAME].files()


def test_a_survey_compares_both_kinds_of_files(server):
    publish(server)
    changed = {**FILES, "config.json": b'{"model_type": "TINY"}', "model.safetensors": os.urandom(5000), "b": b"b"}
    assert at(server).survey(files_of(changed)) == Survey(
        names=frozenset({*FILES, ".gitattributes"}),
        unchanged=frozenset({"README.md", "assets/size.png", "empty.txt"}),
    )


def test_a_survey_of_what_is_not_there_is_empty_and_changes_nothing(server, hub):
    assert at(server).survey(files_of(FILES)) == Survey()
    assert at(server, token=None).survey(files_of(FILES)) == Survey()
    assert not hub.repositories
    publish(server)
    assert at(server, branch="int4").survey(files_of(FILES)) == Survey()


def test_a_listing_of_several_pages_is_read_to_its_end(server, hub):
    hub.page = 2
    publish(server)
    assert publish(server) is None
    assert server.recorded("GET", "cursor=4")


def test_read_gives_a_file_or_nothing(server, hub):
    assert at(server).read("README.md") is None
    publish(server)
    assert at(server).read("README.md") == FILES["README.md"]
    assert at(server).read("model.safetensors") == FILES["model.safetensors"]
    assert at(server).read("missing.md") is None
    assert at(server, branch="int4").read("README.md") is None


def test_a_branch_is_made_from_main_and_main_stays(server, hub):
    publish(server)
    commit = publish(server, {**FILES, "config.json": b"{}"}, branch="int4")
    repository = hub.repositories[NAME]
    assert repository.files() == FILES
    assert repository.files("int4") == {**FILES, "config.json": b"{}"}
    assert commit.url == f"{server.address}/{NAME}/tree/int4"
    assert publish(server, {**FILES, "config.json": b"{}"}, branch="int4") is None


def test_private_is_for_new_repositories_only(server, hub):
    assert at(server).create(True) is True
    assert hub.repositories[NAME].private
    assert at(server).create(False) is False
    assert hub.repositories[NAME].private
    assert at(server, "speech/tiny").create(None) is True
    assert not hub.repositories["speech/tiny"].private
    publish(server)
    assert publish(server) is None


def test_a_pull_request_leaves_main_alone_and_is_not_opened_twice(server, hub):
    publish(server)
    changed = {**FILES, "config.json": b"{}"}
    first = publish(server, changed, create_pr=True, token=BOB)
    repository = hub.repositories[NAME]
    assert repository.files() == FILES
    assert repository.files("refs/pr/1") == changed
    assert first.pull_request == first.url == f"{server.address}/{NAME}/discussions/1"
    assert first.revision == repository.refs["refs/pr/1"]
    assert publish(server, changed, create_pr=True, token=BOB) == first
    assert len(repository.pull_requests) == 1
    publish(server, {**FILES, "config.json": b"[]"}, create_pr=True, token=BOB)
    assert len(repository.pull_requests) == 2


def test_a_pull_request_is_added_to_by_its_ref(server, hub):
    publish(server)
    publish(server, {**FILES, "config.json": b"{}"}, create_pr=True)
    publish(server, {**FILES, "config.json": b"[]"}, branch="refs/pr/1")
    assert hub.repositories[NAME].files("refs/pr/1")["config.json"] == b"[]"
    assert hub.repositories[NAME].files() == FILES


def test_a_draft_pull_request_is_filled_by_its_ref(server, hub):
    from huggingface_hub import HfApi

    publish(server)
    draft = HfApi(endpoint=server.address, token=BOB).create_pull_request(NAME, title="Draft")
    assert draft.status == "draft"
    publish(server, {**FILES, "config.json": b"{}"}, branch=draft.git_reference)
    assert hub.repositories[NAME].files(draft.git_reference)["config.json"] == b"{}"
    assert hub.repositories[NAME].pull_requests[draft.num].status == "open"


def test_large_files_go_up_in_parts(server, hub):
    hub.part = 1000
    publish(server)
    assert hub.repositories[NAME].files() == FILES
    assert len(server.recorded("PUT", f"/{sha256(FILES['model.safetensors'])}/[0-9]")) == 5


def test_two_commits_of_one_destination_follow_each_other(server, hub):
    publish(server)
    destination = at(server)
    destination.survey([])
    destination.commit([File.of("a", b"a")], (), "First")
    destination.commit([File.of("b", b"b")], ("a",), "Second")
    assert hub.repositories[NAME].files() == {**FILES, "b": b"b"}


def test_collections_are_made_once_and_hold_each_repository_once(server, hub):
    names = ["speech/tiny-int8", "speech/tiny-int4"]
    for name in names:
        publish(server, name=name)
    url = at(server, names[0]).collect("Tiny models", names[:1])
    assert at(server, names[0]).collect("Tiny models", names) == url
    (collection,) = hub.collections.values()
    assert collection.items == [("model", name) for name in names]
    assert url == f"{server.address}/collections/{collection.slug}"
    with pytest.raises(PublishError, match="the collection 'Other models' cannot be made"):
        at(server, names[0], token=BOB).collect("Other models", names)


def test_benchmarks_are_those_that_the_hub_lists(server, hub):
    hub.benchmarks = {"org/asr", "org/asr-long"}
    assert at(server).is_benchmark("org/asr")
    assert not at(server).is_benchmark("org/as")
    assert not at(server).is_benchmark("other/asr")


def test_downloads_by_branch_tag_and_commit(server, hub, tmp_path):
    from huggingface_hub import HfApi

    first = publish(server)
    api = HfApi(endpoint=server.address, token=ALICE)
    api.create_tag(NAME, tag="v1")
    publish(server, {**FILES, "config.json": b"{}"}, branch="int4")
    publish(server, {**FILES, "config.json": b"[]"})
    for revision, config in {"main": b"[]", "v1": FILES["config.json"], "int4": b"{}"}.items():
        directory = Path(api.snapshot_download(NAME, revision=revision, cache_dir=tmp_path))
        assert (directory / "config.json").read_bytes() == config
        assert (directory / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert api.snapshot_download(NAME, revision=first.revision, cache_dir=tmp_path).endswith(first.revision)
    refs = api.list_repo_refs(NAME)
    assert {ref.name for ref in refs.branches} == {"main", "int4"}
    assert [ref.name for ref in refs.tags] == ["v1"]
