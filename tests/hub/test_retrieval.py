"""Fetching what was published: whole, as it was published, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hub.loopback.client import python
from hub.loopback.git import Blob, Repository
from hub.loopback.hugging_face import Account, hugging_face
from hub.loopback.modelscope import Model, modelscope
from hub.loopback.server import Loopback
from hub.published import make_small

HUBS = ("hf", "modelscope")
NAME = "alice/toy"
WEIGHTS = r"model\.safetensors"

PULL = """
import json, sys
import sottovoce_hub
from sottovoce.errors import SottovoceError
for options in {jobs!r}:
    try:
        print("FOUND", json.dumps(sottovoce_hub.pull("alice/toy", **options).to_dict()))
    except SottovoceError as error:
        print("ERROR", type(error).__name__, error)
"""


@dataclass(kw_only=True)
class Running:
    """A hub with the toy on it."""

    kind: str
    server: Loopback
    repository: Repository
    small: Path

    def pull(self, home: Path, *jobs: dict[str, Any], **variables: str) -> list[Any]:
        """What becomes of one pull after another, in a process of its own: a report, or an error's text."""
        wanted = [{"hub": self.kind, "directory": str(home.parent / "pulled"), **job} for job in jobs or ({},)]
        done = python(PULL.format(jobs=wanted), self.server, home, **variables)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [line.partition(" ") for line in done.stdout.splitlines() if line.startswith(("FOUND", "ERROR"))]
        assert len(lines) == len(wanted)
        return [json.loads(said) if kind == "FOUND" else said for kind, _, said in lines]

    def add(self, files: dict[str, bytes], *deletions: str) -> None:
        self.repository.commit(
            self.repository.trunk, {name: Blob(content) for name, content in files.items()}, deletions, "Change"
        )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("compressed") / "small")


@pytest.fixture(params=HUBS)
def running(request: pytest.FixtureRequest, small: Path) -> Iterator[Running]:
    alice = {"hf_alice0secret": Account(name="alice")}
    with hugging_face(**alice) if request.param == "hf" else modelscope(**alice) as (server, hub):
        if request.param == "hf":
            hub.repositories[NAME] = repository = Repository(name=NAME)
        else:
            hub.models[NAME] = repository = Model(name=NAME, license="apache-2.0")
        made = Running(kind=request.param, server=server, repository=repository, small=small)
        made.add({path.name: path.read_bytes() for path in small.iterdir()} | {"README.md": b"# Toy"})
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_model_and_its_card_come_and_nothing_else(running: Running, home: Path) -> None:
    running.add({"evil.py": b"print('run')", "notes.txt": b"x", ".env": b"y", "card/size-error.png": b"png"})
    [report] = running.pull(home)
    assert report["verified"]
    pulled = home.parent / "pulled"
    expected = {path.name for path in running.small.iterdir()} | {"README.md", "card/size-error.png"}
    assert set(report["files"]) == expected
    found = {path.relative_to(pulled).as_posix() for path in pulled.rglob("*") if path.is_file()}
    assert found == expected
    for path in running.small.iterdir():
        assert (pulled / path.name).read_bytes() == path.read_bytes()


def test_a_download_that_was_damaged_is_fetched_again(running: Running, home: Path) -> None:
    fault = running.server.fail("flip", "GET", WEIGHTS)
    [report] = running.pull(home)
    assert fault.happened == 1
    assert report["verified"]
    assert (home.parent / "pulled" / "model.safetensors").read_bytes() == (
        running.small / "model.safetensors"
    ).read_bytes()


def test_what_stays_damaged_is_an_error_and_leaves_nothing(running: Running, home: Path) -> None:
    content = bytearray((running.small / "model.safetensors").read_bytes())
    content[-1] ^= 1
    running.add({"model.safetensors": bytes(content)})
    [problem] = running.pull(home)
    assert "alice/toy: damaged: model.safetensors has changed since it was written" in problem
    assert not (home.parent / "pulled").exists()
    running.add({"model.safetensors": (running.small / "model.safetensors").read_bytes()})
    [report] = running.pull(home)
    assert report["verified"]


def test_a_file_that_is_missing_is_named(running: Running, home: Path) -> None:
    running.add({"README.md": b"# Less"}, "config.yaml")
    [problem] = running.pull(home)
    assert "damaged: config.yaml is missing" in problem
    assert not (home.parent / "pulled").exists()


@pytest.mark.parametrize("how", ["cut before", "cut during", "cut answer"])
def test_a_connection_that_is_cut_is_taken_up_again(running: Running, home: Path, how: Any) -> None:
    running.server.fail(how, "GET", WEIGHTS, times=1)
    [first] = running.pull(home)
    if isinstance(first, str):
        assert first.startswith("SourceError alice/toy: could not be fetched")
        assert not (home.parent / "pulled").exists()
        [first] = running.pull(home)
    assert first["verified"]


def test_revisions_and_the_cache(running: Running, home: Path) -> None:
    earlier = running.repository.refs[running.repository.trunk]
    running.add({"README.md": b"# Newer"})
    pulled = home.parent
    jobs = [{"revision": earlier, "directory": str(pulled / "a")}, {"directory": str(pulled / "b")}]
    first, second = running.pull(home, *jobs)
    assert (pulled / "a" / "README.md").read_bytes() == b"# Toy"
    assert (pulled / "b" / "README.md").read_bytes() == b"# Newer"
    assert first["revision"] == earlier
    assert second["revision"] != earlier
    running.server.records.clear()
    [cached] = running.pull(home, {"directory": str(pulled / "c")}, HF_HUB_OFFLINE="1")
    assert cached["verified"]
    assert running.server.records == []


def test_a_revision_that_there_is_not(running: Running, home: Path) -> None:
    [problem] = running.pull(home, {"revision": "v9"})
    assert problem.startswith("SourceError alice/toy: could not be fetched")
    assert not (home.parent / "pulled").exists()


def test_bad_input_asks_the_hub_nothing(running: Running, home: Path) -> None:
    (home.parent / "pulled").mkdir(parents=True)
    (home.parent / "pulled" / "mine.txt").write_text("mine", encoding="utf-8")
    [problem] = running.pull(home)
    assert problem.startswith("UsageError")
    assert "exists already" in problem
    assert (home.parent / "pulled" / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert running.server.records == []


def test_a_manifest_that_names_files_elsewhere_is_refused(running: Running, home: Path) -> None:
    form = json.loads((running.small / "compression.json").read_text(encoding="utf-8"))
    outside = home.parent / "outside.txt"
    outside.write_text("precious", encoding="utf-8")
    form["files"]["../" * 12 + str(outside).lstrip("/")] = "0" * 64
    running.add({"compression.json": json.dumps(form).encode()})
    [problem] = running.pull(home)
    assert "leaves the model's directory" in problem
    assert outside.read_text(encoding="utf-8") == "precious"


def test_a_model_that_is_not_ours_has_no_digests(running: Running, home: Path) -> None:
    running.add({"config.json": b"{}", "code.py": b"x"}, "compression.json")
    [report] = running.pull(home)
    assert not report["verified"]
    assert "model.safetensors" in report["files"]
    assert "code.py" not in report["files"]


def test_a_repository_without_files_of_a_model_is_an_error(running: Running, home: Path) -> None:
    names = [name for name in running.repository.files() if name != ".gitattributes"]
    running.add({".gitignore": b"x", "run.sh": b"x"}, *names)
    [problem] = running.pull(home)
    assert problem.startswith("SourceError alice/toy: nothing to pull: it has no file of a model")
    assert not (home.parent / "pulled").exists()


def test_a_private_repository_takes_a_token(running: Running, home: Path) -> None:
    running.repository.private = True
    without, wrong, right = running.pull(home, {}, {"token": "hf_wrong"}, {"token": "hf_alice0secret"})
    for problem in (without, wrong):
        assert problem.startswith("SourceError alice/toy: could not be fetched")
        assert "hf_wrong" not in problem
    assert right["verified"]
