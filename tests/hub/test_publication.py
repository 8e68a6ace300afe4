"""A push, from a directory to a hub, by the hubs' real clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.loopback.client import hasty
from hub.loopback.hugging_face import Account, HuggingFace, hugging_face
from hub.loopback.server import Loopback
from hub.published import make_small
from sottovoce.errors import PublishError, UsageError
from sottovoce_hub import PushReport, publication, push, push_variants, variants
from sottovoce_hub.huggingface import HuggingFace as Destination

TOKEN = "hf_alice0secret"

# The client sends large files in a way that its own library would have otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")
CARD = {"README.md", "README_zh.md", "card/size-error.png"}
MODEL = {"LICENSE", "compression.json", "config.yaml", "model.safetensors"}
NAME = "alice/toy-int8"


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compressed")
    make_small(root / "int8")
    make_small(root / "int8-weight", "int8-weight")
    return root


@pytest.fixture
def small(compressed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compressed / "int8", tmp_path / "int8"))


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Loopback, HuggingFace]]:
    with hasty(tmp_path / "home"), hugging_face(**{TOKEN: Account(name="alice")}) as (server, hub):

        def open_here(
            hub: str, repository: str, branch: str | None = None, token: str | None = None, license: str | None = None
        ) -> Destination:
            return Destination(repository, branch=branch, token=token or TOKEN, endpoint=server.address)

        monkeypatch.setattr(publication, "open_destination", open_here)
        monkeypatch.setattr(variants, "open_destination", open_here)
        yield server, hub


@pytest.fixture
def server(served: tuple[Loopback, HuggingFace]) -> Loopback:
    return served[0]


@pytest.fixture
def hub(served: tuple[Loopback, HuggingFace]) -> HuggingFace:
    return served[1]


def published(hub: HuggingFace, name: str = NAME, revision: str = "main") -> dict[str, bytes]:
    files = {path: blob.content for path, blob in hub.repositories[name].find(revision).files.items()}
    files.pop(".gitattributes", None)
    return files


def names(report: PushReport) -> set[str]:
    return {file.name for file in report.files}


def test_the_model_and_its_card_go_up(small: Path, hub: HuggingFace) -> None:
    (small / ".env").write_text("SECRET=1", encoding="utf-8")
    report = push(small, NAME)
    there = published(hub)
    assert set(there) == names(report) == MODEL | CARD
    assert all(there[name] == (small / name).read_bytes() for name in MODEL)
    assert set(report.uploaded) == names(report)
    assert (report.created, report.left_out) == (True, (".env",))
    assert report.commit is not None
    assert report.commit.revision == hub.repositories[NAME].refs["main"]


def test_a_second_push_does_nothing(small: Path, hub: HuggingFace, server: Loopback) -> None:
    push(small, NAME)
    before = hub.repositories[NAME].refs["main"]
    server.records.clear()
    report = push(small, NAME)
    assert (report.uploaded, report.deleted, report.created) == ((), (), False)
    assert hub.repositories[NAME].refs["main"] == before
    assert {record.method for record in server.records} == {"GET"}


def test_another_compression_replaces_the_first(compressed: Path, small: Path, hub: HuggingFace) -> None:
    (small / "extra.json").write_text("{}", encoding="utf-8")
    form = json.loads((small / "compression.json").read_text(encoding="utf-8"))
    form["files"]["extra.json"] = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    (small / "compression.json").write_text(json.dumps(form), encoding="utf-8")
    push(small, NAME)
    assert "extra.json" in published(hub)
    hub.repositories[NAME].commit("main", {"notes.md": _blob(b"the owner's own")}, (), "Add notes")
    report = push(compressed / "int8-weight", NAME)
    assert report.deleted == ("extra.json",)
    assert {"LICENSE"}.isdisjoint(report.uploaded)  # the same in both
    there = published(hub)
    assert "extra.json" not in there
    assert there["notes.md"] == b"the owner's own"
    assert there["model.safetensors"] == (compressed / "int8-weight" / "model.safetensors").read_bytes()


def _blob(content: bytes) -> Any:
    from hub.loopback.git import Blob

    return Blob(content)


def test_a_dry_run_speaks_to_no_one(small: Path, server: Loopback) -> None:
    report = push(small, NAME, dry_run=True)
    assert server.records == []
    assert report.commit is None
    form = report.to_dict()
    assert form["dry_run"] is True
    assert {file["name"]: file["size_bytes"] for file in form["files"]}["LICENSE"] == (small / "LICENSE").stat().st_size
    assert {"README.md", "README_zh.md"} <= names(report)


def test_a_pull_request(small: Path, hub: HuggingFace) -> None:
    push(small, NAME)
    main = hub.repositories[NAME].refs["main"]
    (small / "compression.json").write_text(
        (small / "compression.json").read_text(encoding="utf-8") + "\n", encoding="utf-8"
    )
    report = push(small, NAME, create_pr=True, message="A new line")
    assert report.commit is not None
    assert report.commit.pull_request
    assert report.uploaded == ("compression.json",)
    assert hub.repositories[NAME].refs["main"] == main


def test_a_private_repository_and_a_branch(small: Path, hub: HuggingFace) -> None:
    report = push(small, NAME, private=True, branch="v2")
    assert hub.repositories[NAME].private
    assert "model.safetensors" not in published(hub)
    assert "model.safetensors" in published(hub, revision="v2")
    assert report.branch == "v2"


def test_a_damaged_directory_stays(small: Path, server: Loopback) -> None:
    (small / "config.yaml").write_text("model: Other\n", encoding="utf-8")
    with pytest.raises(PublishError, match="config.yaml has changed since it was written"):
        push(small, NAME)
    assert server.records == []


@pytest.mark.parametrize("name", ["toy", "a/b/c", "/toy", "alice/", "alice/to y", "alice/..", "../x", "alice/a--b"])
def test_names_that_are_none(small: Path, name: str, server: Loopback) -> None:
    with pytest.raises(UsageError, match="a repository is named owner/name"):
        push(small, name)
    assert server.records == []


def test_a_hub_that_there_is_not(small: Path) -> None:
    with pytest.raises(UsageError, match="'gitlab': no such hub; there are hf and modelscope"):
        push(small, NAME, hub="gitlab")


def test_metadata_that_the_hub_would_refuse_is_found_before(small: Path, server: Loopback) -> None:
    form = json.loads((small / "compression.json").read_text(encoding="utf-8"))
    form["card"]["library_name"] = ""
    form["source"] |= {"name": "owner/base", "hub": "hf", "license": {"id": "other", "name": "\u0000", "link": None}}
    (small / "compression.json").write_text(json.dumps(form), encoding="utf-8")
    report = push(small, NAME, dry_run=True)  # made good, or told: never sent as it is
    readme = next(file for file in report.files if file.name == "README.md").content
    assert isinstance(readme, bytes)
    assert b"\x00" not in readme
    assert server.records == []


def test_a_leaderboard_is_told_only_of_its_own_dataset(small: Path, hub: HuggingFace) -> None:
    form = json.loads((small / "compression.json").read_text(encoding="utf-8"))
    form["evaluations"][0]["dataset"] = {"id": "owner/benchmark", "task": "test", "revision": None}
    (small / "compression.json").write_text(json.dumps(form), encoding="utf-8")
    push(small, NAME)
    assert ".eval_results/sottovoce.yaml" not in published(hub)
    hub.benchmarks.add("owner/benchmark")
    report = push(small, NAME)
    assert report.uploaded == (".eval_results/sottovoce.yaml",)
    assert b"owner/benchmark" in published(hub)[".eval_results/sottovoce.yaml"]
    hub.benchmarks.clear()
    assert push(small, NAME).deleted == (".eval_results/sottovoce.yaml",)


def test_variants_get_a_repository_each_in_a_collection(compressed: Path, hub: HuggingFace) -> None:
    report = push_variants(compressed, "alice/toy", ["int8", "int8-weight"])
    assert set(report.variants) == {"int8", "int8-weight"}
    for name in report.variants:
        there = published(hub, f"alice/toy-{name}")
        assert there["model.safetensors"] == (compressed / name / "model.safetensors").read_bytes()
        assert b"alice/toy-int8-weight" in there["README.md"]
    [collection] = hub.collections.values()
    assert report.collection is not None
    assert report.collection.endswith(collection.slug)
    again = push_variants(compressed, "alice/toy", ["int8", "int8-weight"])
    assert all(each.uploaded == () for each in again.variants.values())
    assert len(hub.collections) == 1


def test_variants_as_branches_of_one_repository(compressed: Path, hub: HuggingFace) -> None:
    report = push_variants(compressed, "alice/toy", ["int8-weight", "int8"], branches=True)
    assert report.collection is None
    weights = {
        revision: published(hub, "alice/toy", revision)["model.safetensors"]
        for revision in ("main", "int8-weight", "int8")
    }
    assert weights["main"] == weights["int8-weight"] == (compressed / "int8-weight" / "model.safetensors").read_bytes()
    assert weights["int8"] == (compressed / "int8" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        (["int8", "int8"], "name every one once"),
        ([], "none"),
        (["int8", "int4"], "int4: there is no compression.json"),
        (["../int8"], "there is no compression.json"),
    ],
)
def test_variants_that_are_not_there(compressed: Path, server: Loopback, chosen: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        push_variants(compressed, "alice/toy", chosen)
    assert server.records == []


def test_variants_of_different_models_are_not_mixed(small: Path, server: Loopback) -> None:
    make_small(small.parent / "other", seed=1)
    with pytest.raises(UsageError, match="were not all made from the same model"):
        push_variants(small.parent, "alice/toy", ["int8", "other"])
    assert server.records == []


def test_one_damaged_variant_keeps_all_back(compressed: Path, small: Path, server: Loopback) -> None:
    shutil.copytree(compressed / "int8-weight", small.parent / "int8-weight")
    (small.parent / "int8-weight" / "LICENSE").unlink()
    with pytest.raises(PublishError, match="LICENSE is missing"):
        push_variants(small.parent, "alice/toy", ["int8", "int8-weight"])
    assert server.records == []
